"""What a model's folder is checked for before it is used: it may be a stranger's."""

import os
import pathlib
import sys

import flax.linen as nn
import jax

from rahf import targets as table
from rahf.models.batch import example_batch
from rahf.models.rahf import make_model
from rahf.weights import matching


def check_modules(config, folder: str | os.PathLike) -> None:
    """Refuses a folder whose config names modules that the folder itself brings.

    Loading a model may import `config.task.modules`, which register a user's targets.
    Found on the Python path they are the user's own; in the folder, which may be on it
    as the current one or below it, they are code that came with the download.

    Raises:
      ValueError: with the module.
    """
    inside = pathlib.Path(folder).resolve()
    for name in map(str, config.task.get("modules", ())):
        parts = name.split(".")
        for root in sys.path:
            for count in range(1, len(parts) + 1):
                place = pathlib.Path(root or ".", *parts[:count]).resolve()
                if inside in place.parents and any(place.parent.glob(f"{place.name}*")):
                    raise ValueError(
                        f"{folder}: its config.task.modules names {name!r}, which would "
                        f"be imported from the folder itself ({place}); a model brings "
                        "no code. If it is yours, put it elsewhere on the Python path"
                    )


def parameter_shapes(config) -> dict[str, tuple[int, ...]]:
    """The flat shapes of a config's model; nothing is computed."""
    model = make_model(config)
    init = lambda: nn.unbox(model.init(jax.random.key(0), example_batch(config)))
    shapes = jax.eval_shape(init)["params"]
    return {name: tuple(x.shape) for name, x in matching.flatten(shapes).items()}


def check_parameters(config, params, folder: str | os.PathLike) -> None:
    """Compares parameters with the model of the config beside them.

    Raises:
      ValueError: some are missing, of another shape, not finite, or of no such model.
    """
    if not set(config.task.targets) <= {row.name for row in table.rows()}:
        return  # a user's target is registered later; its head is not known yet
    wanted = {
        name: jax.ShapeDtypeStruct(shape, "float32")
        for name, shape in parameter_shapes(config).items()
    }
    _, report = matching.match(
        wanted, matching.flatten(params), source=os.fspath(folder)
    )
    if odd := report.names("unexpected") + report.names("resized"):
        raise ValueError(
            f"{folder} does not fit its config.json: the model has no {odd[0]} of that "
            "shape"
        )
