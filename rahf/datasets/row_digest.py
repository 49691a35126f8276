"""A digest that changes whenever the rows of a dataset do."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any


def digest_rows(rows: Iterable[Any]) -> str:
    """Returns the SHA-256 of rows, in order, in hexadecimal.

    Args:
      rows: values that JSON can hold: text, numbers, None, lists of them.
    """
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(row).encode() + b"\n")
    return found.hexdigest()
