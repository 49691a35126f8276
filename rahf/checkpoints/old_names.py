"""Names from older versions, whose configs are read as if written today.

The names of parameters have not changed: the word-presence module is still saved as
"word_evidence" (rahf.models.rahf).
"""

from collections.abc import Mapping
from typing import Any

_WORD_PRESENCE = "word_presence"
#: Keys of `config.model`.
_MODEL = {"word_evidence": _WORD_PRESENCE}
#: Values of `config.input.loader`.
_LOADERS = {"procedural": "grain"}
#: Targets, and the suffixes of the tasks that ask for them.
_TARGETS = {"shown_words": _WORD_PRESENCE}


def upgrade(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a config.json with today's names.

    Args:
      content: the parsed JSON; must have "model", "input" and "task".
    """
    new = dict(content)
    new["model"] = {_MODEL.get(k, k): v for k, v in content["model"].items()}
    loader = content["input"].get("loader")
    if loader in _LOADERS:
        new["input"] = {**content["input"], "loader": _LOADERS[loader]}
    for section in ("task", "loss_weights", "checkpoint"):
        if section in content:
            new[section] = _rename(content[section])
    return new


def _rename(value: Any) -> Any:
    """Renames targets and tasks in keys, lists and strings, including "task+task"."""
    if isinstance(value, Mapping):
        return {_rename(key): _rename(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rename(each) for each in value]
    if not isinstance(value, str):
        return value
    for old, new in _TARGETS.items():
        parts = value.split("+")  # of a task; a metric is "target/metric"
        value = "+".join(
            new + part.removeprefix(old)
            if part == old or part.startswith(f"{old}/")
            else f"{part.removesuffix(old)}{new}"
            if part.endswith(f"_{old}")
            else part
            for part in parts
        )
    return value
