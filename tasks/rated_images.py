"""Registers the tasks of rated images with seqio; `rahf.input.catalog` lists them.

Tasks: rated_images_<target> for each of the four scores (augmented prompt), and
rated_images_multihead (all that `config.input.rated_images.targets` maps). How many
records there are is known once a config names the table.
"""

from rahf.input.seqio.catalog import register_dataset

register_dataset("rated_images")
