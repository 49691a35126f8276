"""Records kept in memory, for sources that take longer to make than to unpack."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import targets

# A kept record's dict, keys, small objects and the allocator's share, as measured.
_OVERHEAD = 2400


class RecordCache(Sequence[Mapping[str, Any]]):
    """A sequence of records that makes each of them once.

    Arrays are kept compressed, without loss: a drawing and its maps shrink to a
    tenth. When the memory is full, what is kept stays and the rest is made whenever
    it is asked for, so that memory is bounded and no order of access is worst. What
    is kept never changes what is returned, so a run resumes exactly with or without
    a cache, or with another size of it.

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
          records: whose record i is always the same.
          fields: what of a record is kept and returned, where it is there.
          max_bytes: the most memory to hold.
        """
        self.records, self._fields = records, tuple(fields)
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: dict[int, dict[str, Any]] = {}

    @property
    def nbytes(self) -> int:
        """The memory held now."""
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
            # Two threads may make the same record; one of the two is then kept.
            if self._bytes + size <= self._max_bytes and index not in self._kept:
                self._kept[index] = kept
                self._bytes += size
        return record

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_bytes": 0}


def cached_records(
    tasks: Sequence[Any], options: Mapping[str, Any]
) -> dict[Callable[..., Any], Any]:
    """Returns the training records of each source, which its tasks share.

    Args:
      tasks: with `targets` and `records`.
      options: `config.input`; with `cache`, the megabytes that all sources may keep.

    Returns:
      `task.records` -> what it returns, in a cache if it is a sequence and asked for.
    """
    megabytes = options.get("cache", 0)
    if megabytes < 0:
        raise ValueError(f"config.input.cache={megabytes} must be at least 0 megabytes")
    fields: dict[Callable[..., Any], set[str]] = {}
    for task in tasks:
        labels = {row.field for row in targets.select(task.targets)}
        fields.setdefault(task.records, {"uid", "image", "prompt"}).update(labels)
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
    if not isinstance(value, np.ndarray) or value.dtype.hasobject:
        return value
    # Level 1: 0.2 ms for a record of 64 pixels, and the others save little more.
    data = zlib.compress(np.ascontiguousarray(value).data, level=1)
    return _Packed((data, value.dtype, value.shape))


def _unpack(value: Any) -> Any:
    if not isinstance(value, _Packed):
        return value
    data, dtype, shape = value
    return np.frombuffer(zlib.decompress(data), dtype).reshape(shape)


def _size(value: Any) -> int:
    data = value[0] if isinstance(value, _Packed) else value
    return len(data) if isinstance(data, (bytes, str)) else 0


class _Packed(tuple):
    """(compressed bytes, dtype, shape) of an array."""
