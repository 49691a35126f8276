"""The built dataset as a sequence of records, and its tasks."""

from rahf.datasets.files.built_records import StoredRecords
from rahf.datasets.richhf import NAME
from rahf.input import grain_loader


class RichHF(StoredRecords):
    """One split of RichHF-18K, as rahf.bin.build_richhf wrote it."""

    name, section = NAME, "richhf"
    remedy = "docs/data.md says how to build it"


richhf_records = RichHF.of
grain_loader.register_dataset("richhf", richhf_records)
