"""Registers captioning with seqio: the same task as `rahf.data.procedural` has.

`captions` reads what `config.input.captions` names: tar shards, a table or TFDS.
"""

from rahf.data import seqio_captions

seqio_captions.add_task("captions")
