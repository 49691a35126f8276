"""Caches records in memory, for sources that are slower to make than to unpack."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import targets
from rahf.input import pairs

# Measured bytes of a cached record's dict, keys and small objects.
_OVERHEAD = 2400


class RecordCache(Sequence[Mapping[str, Any]]):
    """A sequence of records that makes each of them only once.

    Arrays are compressed without loss: a drawing and its maps shrink to a tenth. Once
    the memory is full, cached records stay and all others are made on demand, so that
    memory is bounded and no order of access is a bad one. The cache never changes what
    is returned, so a run resumes exactly with or without it, and with any size.

    A copy in another process starts empty.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        fields: Iterable[str],
        max_bytes: int,
    ):
        """Wraps a sequence.

        Args:
          records: the sequence; record i must always be the same.
          fields: the fields of a record to keep and return, if present.
          max_bytes: the maximum memory of the cache.
        """
        self.records, self._fields = records, tuple(fields)
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: dict[int, dict[str, Any]] = {}

    @property
    def nbytes(self) -> int:
        """The memory in use, in bytes."""
        return self._bytes

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        index = int(index)
        kept = self._kept.get(index)
        if kept is not None:
            return {name: _unpack(value) for name, value in kept.items()}
        record = self.records[index]
        record = {name: record[name] for name in self._fields if name in record}
        if self._bytes < self._max_bytes:
            kept = {name: _pack(value) for name, value in record.items()}
            size = _OVERHEAD + sum(map(_size, kept.values()))
            # Two threads may make the same record; only one is then kept.
            if self._bytes + size <= self._max_bytes and index not in self._kept:
                self._kept[index] = kept
                self._bytes += size
        return record

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_bytes": 0}


def cached_records(
    tasks: Sequence[Any], options: Mapping[str, Any]
) -> dict[Callable[..., Any], Any]:
    """Returns the training records of each source, which tasks share.

    Args:
      tasks: objects with `targets` and `records`.
      options: `config.input`; `cache` is the total megabytes that sources may cache.

    Returns:
      `task.records` -> its records, cached if `cache` is set and they are a sequence.
    """
    megabytes = options.get("cache", 0)
    if megabytes < 0:
        raise ValueError(f"config.input.cache={megabytes} must be at least 0 megabytes")
    fields: dict[Callable[..., Any], set[str]] = {}
    for task in tasks:
        labels = {row.field for row in targets.select(task.targets)}
        kept = {"uid", "image", "prompt", *pairs.FIELDS}
        fields.setdefault(task.records, kept).update(labels)
    sources = {make: make("train", options) for make in fields}
    if not megabytes:
        return sources
    most = megabytes * 10**6 // len(sources)
    return {
        make: RecordCache(records, sorted(fields[make]), most)
        if hasattr(records, "__getitem__")  # shards have no indices
        else records
        for make, records in sources.items()
    }


def _pack(value: Any) -> Any:
    if isinstance(value, Mapping):  # the other record of a pair
        return {name: _pack(each) for name, each in value.items()}
    if not isinstance(value, np.ndarray) or value.dtype.hasobject:
        return value
    # Level 1 takes 0.2 ms for a record of 64 pixels; higher levels save little more.
    data = zlib.compress(np.ascontiguousarray(value).data, level=1)
    return _Packed((data, value.dtype, value.shape))


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unpack(each) for name, each in value.items()}
    if not isinstance(value, _Packed):
        return value
    data, dtype, shape = value
    return np.frombuffer(zlib.decompress(data), dtype).reshape(shape)


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return _OVERHEAD + sum(map(_size, value.values()))
    data = value[0] if isinstance(value, _Packed) else value
    return len(data) if isinstance(data, (bytes, str)) else 0


class _Packed(tuple):
    """(compressed bytes, dtype, shape) of an array."""
