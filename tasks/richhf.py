"""Registers the tasks of RichHF-18K with seqio; `rahf.input.catalog` lists them.

`config.input.richhf.data_dir` says where the dataset is; by default in TFDS's data
directory.
"""

from rahf.input.seqio.catalog import register_dataset

register_dataset("richhf")
