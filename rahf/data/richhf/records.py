"""The built dataset as a sequence of records, and its tasks."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf import images
from rahf.data import procedural
from rahf.data.richhf import NAME, joining
from rahf.data.richhf.labels import MAPS, SCORES, WORDS

_OPTION = "config.input.richhf.data_dir"


class RichHF(Sequence[dict[str, Any]]):
    """One split of a dataset with RichHF-18K's fields, without TensorFlow.

    A record holds `uid`, `image` (uint8[H, W, 3]), `prompt` and the label fields
    that are known (docs/data.md). It is decoded when asked for. The files are opened
    in the process that reads.

    Args:
      split: "train", "dev" or "test".
      data_dir: the data directory that holds the dataset, as `tfds.load` takes it;
        "" is TFDS's own.
      name: of the dataset.

    Raises:
      ValueError: there is no such dataset or split; for a record, a field does not
        decode.
    """

    def __init__(self, split: str, data_dir: str = "", *, name: str = NAME):
        self.split, self.data_dir, self.name = split, data_dir, name
        self._length = len(self._source)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"RichHF({self.split!r}, {self.data_dir!r}, name={self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_source"}

    @functools.cached_property
    def _source(self) -> Any:
        from rahf.data import tfds_records

        return tfds_records.Source(self.name, self.split, self.data_dir, option=_OPTION)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {self!r}")
        stored = self._source[int(index) % len(self)]
        uid = stored["uid"].decode()
        masked = {name.decode() for name in stored["masked"]}
        known = [name for name in (*MAPS, *SCORES, WORDS) if name not in masked]
        record: dict[str, Any] = {
            "uid": uid,
            "image": self._decode(images.read_image, stored["image"], uid, "image"),
            "prompt": stored["prompt"].decode(),
        }
        for field in known:
            value = stored[field]
            if field in MAPS:
                grey = self._decode(joining.decode_map, value, uid, field)
                record[field] = grey.astype(np.float32) / np.float32(255)
            else:
                record[field] = float(value) if field in SCORES else value
        return record

    def _decode(self, decode: Any, data: bytes, uid: str, field: str) -> np.ndarray:
        try:
            return decode(data)
        except images.ImageError as error:
            raise ValueError(
                f"{self!r}, record {uid!r}, field {field!r}: {error}"
            ) from error


def richhf_records(split: str, options: Mapping[str, Any]) -> RichHF:
    """Returns a split of RichHF-18K, as `config.input` wants it.

    Args:
      split: "train", "dev" or "test".
      options: optionally `richhf` with `data_dir`.
    """
    return RichHF(split, (options.get("richhf") or {}).get("data_dir", ""))


procedural.register_dataset("richhf", richhf_records)
