"""Computes a digest of a run's data, by which the run detects changes."""

import hashlib
from collections.abc import Iterable
from typing import Any

from rahf.datasets.files.tar_shards import Shards
from rahf.input.record_cache import RecordCache


def digest_of(sources: Iterable[Any]) -> str | None:
    """Combines the digests of several sources of records.

    Args:
      sources: sources of records. Those without a method `digest() -> str`, such as
        scenes, are skipped; shards are identified by their names without the folder.

    Returns:
      A digest that does not depend on the order of the sources, or None if no source
      has one.
    """
    found = sorted(filter(None, map(_digest, sources)))
    return _hash(found) if found else None


def _digest(source: Any) -> str | None:
    if isinstance(source, RecordCache):
        source = source.records
    if isinstance(source, Shards):
        return _hash(url.rsplit("/", 1)[-1] for url in source.urls)
    digest: Any = getattr(source, "digest", None)
    return str(digest()) if callable(digest) else None


def _hash(parts: Iterable[str]) -> str:
    text = "\n".join(parts)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
