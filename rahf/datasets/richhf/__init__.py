"""RichHF-18K: from the published files to records (docs/data.md).

labels      one record of the published label files
pickapic    Pick-a-Pic's Parquet shards, row group by row group
shelf       the images found so far, so that a join can stop and go on
joining     label + image + prompt -> record, and what can be wrong with them
build       the join on one machine
beam        the same join as an Apache Beam pipeline
records     the built dataset as a sequence of records, and its tasks
"""

#: Name and version of the TFDS dataset.
NAME, VERSION = "rich_hf_18k", "1.0.0"
#: Split -> records in the published label files.
PUBLISHED = {"train": 15_810, "dev": 995, "test": 955}
