"""The built dataset as a sequence of records, and its tasks."""

from collections.abc import Mapping
from typing import Any

from rahf.data import procedural
from rahf.data.richhf import NAME
from rahf.data.stored import StoredRecords


class RichHF(StoredRecords):
    """One split of RichHF-18K, as rahf.bin.build_richhf wrote it."""

    name = NAME
    option = "config.input.richhf.data_dir"
    remedy = "docs/data.md says how to build it"


def richhf_records(split: str, options: Mapping[str, Any]) -> RichHF:
    """Returns a split of RichHF-18K, as `config.input` wants it.

    Args:
      split: "train", "dev" or "test".
      options: optionally `richhf` with `data_dir`.
    """
    return RichHF(split, (options.get("richhf") or {}).get("data_dir", ""))


procedural.register_dataset("richhf", richhf_records)
