"""Registers the tasks of rated images with seqio: those of `rahf.data.procedural`.

Tasks: rated_images_<target> for each of the four scores (augmented prompt), and
rated_images_multihead (all that `config.input.rated_images.targets` maps). How many
records there are is known once a config names the table.
"""

from rahf.data import procedural, seqio_tasks
from rahf.data.splits import SPLITS

for _task in procedural.TASKS.values():
    if _task.name.startswith("rated_images_"):
        seqio_tasks.add_task(
            _task.name,
            _task.targets,
            _task.records,
            dict.fromkeys(SPLITS, 0),
            augment=_task.augment,
        )
