"""Which targets of a run on rated images have no column to be trained on."""

from collections.abc import Iterable
from typing import Any

from absl import logging

from rahf.datasets.rated_options import RatedImagesOptions

_PREFIX = "rated_images_"


def warn_of_missing(config, tasks: Iterable[Any]) -> None:
    """Warns of targets that tasks on rated images ask for and no column holds.

    Their heads are trained on nothing. A target that another task of the mixture
    teaches, or that no task asks for, is left out.

    Args:
      config: with `task.targets` and `input.rated_images`.
      tasks: what `config.task.name` names, with `name` and `targets`.
    """
    tasks = list(tasks)
    rated = [task for task in tasks if task.name.startswith(_PREFIX)]
    if not rated:
        return
    options = RatedImagesOptions.from_options(config.input)
    columns = {rating.target for rating in options.ratings()}
    others = {name for task in tasks if task not in rated for name in task.targets}
    asked = {name for task in rated for name in task.targets}
    lacking = [
        name
        for name in config.task.targets
        if name in asked and name not in columns | others
    ]
    if lacking:
        logging.warning(
            "config.task.targets: %s: no column of config.input.rated_images.targets="
            "%r holds it, so its head is trained on nothing; take it out, or name its "
            "column",
            ", ".join(lacking),
            options.targets,
        )
