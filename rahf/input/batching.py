"""From examples that were made to batches."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rahf.input.bad_records import ExampleResult
from rahf.input.converter import Batch, Converter


@dataclasses.dataclass(frozen=True)
class Batched:
    """Examples -> batch, how many are in it, and why records were skipped."""

    converter: Converter
    batch_size: int

    def __call__(self, made: Sequence[ExampleResult]) -> Any:
        batch, examples, reasons = self._make(made)
        return batch, len(examples), reasons

    def _make(
        self, made: Sequence[ExampleResult]
    ) -> tuple[Batch, list[Any], list[str]]:
        examples = [each.example for each in made if each.example is not None]
        reasons = [reason for each in made for reason in each.reasons]
        return self.converter(examples, self.batch_size), examples, reasons


class BatchedWithInfos(Batched):
    """Examples -> batch, who is in it, and why records were skipped."""

    def __call__(self, made: Sequence[ExampleResult]) -> Any:
        batch, examples, reasons = self._make(made)
        return batch, self.converter.infos(examples), reasons
