"""Registers the tasks of consolidated ratings with seqio: the same as without it.

Tasks: consolidated_<target> for each of the seven targets (augmented prompt),
consolidated_multihead (all seven in every example), consolidated_shown_words (which
pieces of the prompt the image shows) and consolidated_multihead_shown_words (all of it);
consolidated_captioning.
Mixtures in equal parts: consolidated_seven, consolidated_seven_captioning,
consolidated_multihead_captioning. config.input.consolidated.data_dir says where the
dataset is.
"""

import seqio

from rahf.datasets.ratings.consolidated import consolidated_records
from rahf.datasets.splits import SPLITS
from rahf.input import grain_loader
from rahf.input.seqio import tasks as seqio_tasks

for _task in grain_loader.TASKS.values():
    if _task.records is consolidated_records:
        seqio_tasks.add_task(
            _task.name,
            _task.targets,
            _task.records,
            dict.fromkeys(SPLITS, 0),  # how many there are is asked of the dataset
            augment=_task.augment,
        )
for _mixture, _names in grain_loader.MIXTURES.items():
    if _mixture.startswith("consolidated_"):
        seqio.MixtureRegistry.add(_mixture, list(_names), default_rate=1.0)
