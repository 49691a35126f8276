"""Registers captioning with seqio: the same task as `rahf.input.grain_loader` has.

`captions` reads what `config.input.captions` names: tar shards, a table or TFDS.
"""

from rahf.input.seqio import captions as seqio_captions

seqio_captions.add_task("captions")
