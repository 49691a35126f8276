"""Registers captioning with seqio.

`captions` reads what `config.input.captions` names: tar shards, a table or TFDS.
"""

from rahf.input.seqio import captions

captions.add_task("captions")
