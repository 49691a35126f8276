"""Registers the tasks of scenes with seqio; `rahf.input.catalog` lists them.

scenes_captioning is of scenes that show their prompts.
"""

from rahf.input.seqio.catalog import register_dataset

register_dataset("scenes")
