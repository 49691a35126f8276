"""Registers the tasks of rated images with seqio: those of `rahf.input.grain_loader`.

Tasks: rated_images_<target> for each of the four scores (augmented prompt), and
rated_images_multihead (all that `config.input.rated_images.targets` maps). How many
records there are is known once a config names the table.
"""

from rahf.datasets.splits import SPLITS
from rahf.input import grain_loader
from rahf.input.seqio import tasks as seqio_tasks

for _task in grain_loader.TASKS.values():
    if _task.name.startswith("rated_images_"):
        seqio_tasks.add_task(
            _task.name,
            _task.targets,
            _task.records,
            dict.fromkeys(SPLITS, 0),
            augment=_task.augment,
        )
