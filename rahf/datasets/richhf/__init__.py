"""RichHF-18K: from the published files to records (docs/richhf.md).

labels         the published label files
pickapic       Pick-a-Pic's Parquet shards, one row group at a time
picture_store  the images found so far, so that a join can be resumed
joining        label + image + prompt -> record, and its possible problems
report         counts and problems of a build
build_paths    where a build reads and writes
build          the join on one machine
beam           the same join as an Apache Beam pipeline
records        the built dataset as a sequence of records
"""

#: Name and version of the TFDS dataset.
NAME, VERSION = "rich_hf_18k", "1.0.0"
#: Split -> number of records in the published label files.
PUBLISHED = {"train": 15_810, "dev": 995, "test": 955}
