"""Registers the tasks of rated images with seqio; see `rahf.input.catalog`.

They are rated_images_<target> for each of the four scores (augmented prompt), and
rated_images_multihead for all targets in `config.input.rated_images.targets`. The
number of records is known once a config names the table.
"""

from rahf.input.seqio.catalog import register_dataset

register_dataset("rated_images")
