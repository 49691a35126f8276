"""Registers the catalog's tasks and mixtures with seqio, for the modules in tasks/."""

from typing import Any, cast

import seqio

from rahf.input import catalog, registry
from rahf.input.seqio.tasks import add_task


def register_dataset(dataset: str) -> None:
    """Registers the tasks and mixtures of one of the catalog's datasets.

    Args:
      dataset: a key of `catalog.SIZES`. For captions, see
        `rahf.input.seqio.captions.add_task`.
    """
    for name in catalog.NAMES[dataset]:
        if name in registry.MIXTURES:
            seqio.MixtureRegistry.add(
                name, list(registry.MIXTURES[name]), default_rate=1.0
            )
        else:
            task = registry.TASKS[name]
            add_task(
                name,
                task.targets,
                cast(Any, task.records),  # none of these returns shards
                catalog.SIZES[dataset],
                augment=task.augment,
                order=task.order_name,
            )
