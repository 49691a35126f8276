"""The built dataset as a sequence of records, and its tasks."""

from rahf.data import procedural
from rahf.data.richhf import NAME
from rahf.data.stored import StoredRecords


class RichHF(StoredRecords):
    """One split of RichHF-18K, as rahf.bin.build_richhf wrote it."""

    name, section = NAME, "richhf"
    remedy = "docs/data.md says how to build it"


richhf_records = RichHF.of
procedural.register_dataset("richhf", richhf_records)
