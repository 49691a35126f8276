"""Registers the tasks of scenes with seqio; see `rahf.input.catalog`.

scenes_captioning uses scenes that show their prompts.
"""

from rahf.input.seqio.catalog import register_dataset

register_dataset("scenes")
