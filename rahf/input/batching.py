"""Collects examples into batches."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rahf.input.bad_records import ExampleResult
from rahf.input.converter import Batch, Converter


@dataclasses.dataclass(frozen=True)
class Batched:
    """Examples -> batch, number of examples, and why records were skipped."""

    converter: Converter
    batch_size: int

    def __call__(self, results: Sequence[ExampleResult]) -> Any:
        batch, examples, reasons = self._make(results)
        return batch, len(examples), reasons

    def _make(
        self, results: Sequence[ExampleResult]
    ) -> tuple[Batch, list[Any], list[str]]:
        made = [each.example for each in results if each.example is not None]
        # What must stay together comes as a tuple (`rahf.input.pairs`).
        groups = [each if isinstance(each, tuple) else (each,) for each in made]
        examples = [example for group in groups for example in group]
        reasons = [reason for each in results for reason in each.reasons]
        return self.converter(examples, self.batch_size), examples, reasons


class BatchedWithInfos(Batched):
    """Examples -> batch, infos of its examples, and why records were skipped."""

    def __call__(self, results: Sequence[ExampleResult]) -> Any:
        batch, examples, reasons = self._make(results)
        return batch, self.converter.infos(examples), reasons
