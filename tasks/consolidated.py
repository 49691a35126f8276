"""Registers the tasks of consolidated ratings with seqio; see `rahf.input.catalog`.

`config.input.consolidated.data_dir` is the data directory.
"""

from rahf.input.seqio.catalog import register_dataset

register_dataset("consolidated")
