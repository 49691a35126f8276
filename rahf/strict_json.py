"""JSON that people write: a key that appears twice is an error, not the last one."""

import json
from typing import Any


class RepeatedKeyError(ValueError):
    """An object has a key twice."""


def loads(text: str | bytes) -> Any:
    """Parses JSON, as `json.loads` does.

    Raises:
      ValueError: it is not JSON.
      RepeatedKeyError: an object has a key twice; a ValueError too.
      RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedKeyError(f"key {twice!r:.60} appears twice; remove one of them")
    return found
