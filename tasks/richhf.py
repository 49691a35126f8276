"""Registers the tasks of RichHF-18K with seqio; see `rahf.input.catalog`.

`config.input.richhf.data_dir` is the data directory, by default that of TFDS.
"""

from rahf.input.seqio.catalog import register_dataset

register_dataset("richhf")
