"""Registers the tasks of RichHF-18K with seqio: the same as without TensorFlow.

Tasks: richhf_<target> for each of the seven targets (augmented prompt),
richhf_multihead (all seven in every example), richhf_shown_words (which pieces of the
prompt the image shows) and richhf_multihead_shown_words (all of it); richhf_captioning
(image -> prompt).
Mixtures in equal parts: richhf_seven, richhf_seven_captioning,
richhf_multihead_captioning. config.input.richhf.data_dir says where the dataset is;
by default in TFDS's data directory.
"""

import seqio

from rahf.datasets.richhf import PUBLISHED
from rahf.datasets.richhf.records import richhf_records
from rahf.input import grain_loader
from rahf.input.seqio import tasks as seqio_tasks

for _task in grain_loader.TASKS.values():
    if _task.records is richhf_records:
        seqio_tasks.add_task(
            _task.name, _task.targets, _task.records, PUBLISHED, augment=_task.augment
        )
for _mixture, _names in grain_loader.MIXTURES.items():
    if _mixture.startswith("richhf_"):
        seqio.MixtureRegistry.add(_mixture, list(_names), default_rate=1.0)
