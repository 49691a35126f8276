"""The built dataset as a sequence of records."""

from rahf.datasets.files.built_records import BuiltRecords
from rahf.datasets.richhf import NAME


class RichHF(BuiltRecords):
    """One split of RichHF-18K, as rahf.bin.build_richhf writes it."""

    name, section = NAME, "richhf"
    remedy = "docs/richhf.md says how to build it"
