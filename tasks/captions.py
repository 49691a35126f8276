"""Registers captioning with seqio.

`captions` reads the source in `config.input.captions`: tar shards, a table or TFDS.
"""

from rahf.input.seqio import captions

captions.add_task("captions")
