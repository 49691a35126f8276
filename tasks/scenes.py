"""Registers the scenes tasks with seqio: the same as `rahf.input.grain_loader` has.

Tasks: scenes_<target> for each of the seven targets (augmented prompt),
scenes_multihead (all seven in every example), scenes_shown_words (which pieces of the
prompt the image shows) and scenes_multihead_shown_words (all of it); scenes_captioning
(image -> prompt), of scenes that show their prompts. Mixtures in equal parts:
scenes_seven, scenes_seven_captioning, scenes_multihead_captioning.
"""

import seqio

from rahf.datasets.scenes import SPLITS
from rahf.input import grain_loader
from rahf.input.seqio import tasks as seqio_tasks

for _task in grain_loader.TASKS.values():
    if _task.records in (grain_loader.scenes_records, grain_loader.faithful_records):
        seqio_tasks.add_task(
            _task.name, _task.targets, _task.records, SPLITS, augment=_task.augment
        )
for _mixture, _names in grain_loader.MIXTURES.items():
    _ours = _mixture.startswith("scenes_")  # other datasets have modules of their own
    if _ours and set(_names) <= set(seqio.TaskRegistry.names()):
        seqio.MixtureRegistry.add(_mixture, list(_names), default_rate=1.0)
