"""Runs a model over a split and measures it, for the loop and the binaries alike."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from rahf import storage
from rahf.evaluation import text_tables
from rahf.evaluation.metrics.accumulator import Accumulator, check_convention
from rahf.evaluation.metrics.table import METRICS, NAMES, describe_metric
from rahf.targets import ordered, rows, select

Batch = Mapping[str, Any]
Infos = Sequence[Mapping[str, Any]]


@dataclasses.dataclass
class Results:
    """The results of an evaluation.

    Attributes:
      metrics: `{target name: {metric: value}}`; a metric that no example defines
        is absent.
      rows: one mapping per example and target, in order: `uid`, `prompt`,
        `target`, and what that kind of target records.
      convention: the convention the metrics follow.
      facts: anything else worth keeping: checkpoint, step, split, seconds;
        `not_measured` says, by name, why a target of the task has no numbers;
        `trivial` has the metrics of what needs no model (`rahf.evaluation.trivial`).
    """

    metrics: dict[str, dict[str, float]]
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    convention: str = "rahf"
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """Returns `{"plausibility/plcc": value}`, as metrics.jsonl names them."""
        return {
            f"{name}/{metric}": value
            for name, values in ordered(self.metrics).items()
            for metric, value in values.items()
        }

    def table(self) -> str:
        """Returns the metrics as aligned plain text."""
        return text_tables.render(self.with_trivial())

    def with_trivial(self) -> dict[str, dict[str, float]]:
        """Returns the metrics, and after them what is trivial: "overall, trivial"."""
        trivial = self.facts.get("trivial", {})
        rows = {f"{name}, trivial": values for name, values in trivial.items()}
        return self.metrics | rows

    def notes(self) -> list[str]:
        """Returns one line for each thing that was not measured."""
        lines = [
            f"{name}: not measured, {reason}"
            for name, reason in ordered(self.facts.get("not_measured", {})).items()
        ]
        lines += [
            f"{name}: NOT BETTER THAN TRIVIAL in {', '.join(titles)}"
            for name, titles in ordered(self.facts.get("not_beaten", {})).items()
        ]
        kinds = {row.name: row.kind for row in rows()}
        for name, values in ordered(self.metrics).items():
            known = name in kinds and values.get("n")
            names = NAMES[kinds[name]] if known else ()
            if undefined := [
                describe_metric(x).title for x in names if x not in values
            ]:
                lines.append(f"{name}: no example defines {', '.join(undefined)}")
        lines += self.facts.get("unmatched", [])
        if bad := self.facts.get("bad_records"):
            lines.append(f"{bad:,} bad records were skipped and are not measured")
        return lines

    def write(self, directory: str | pathlib.Path, name: str = "metrics") -> list[str]:
        """Writes `<name>.json` and `<name>.examples.jsonl`; returns their paths."""
        directory = storage.place(directory)
        storage.make_folder(directory)
        summary = directory / f"{name}.json"
        examples = directory / f"{name}.examples.jsonl"
        metrics = ordered(self.metrics)
        content = self.facts | {"convention": self.convention, "metrics": metrics}
        with (
            storage.writing(examples) as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            for row in self.rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        storage.write_text(summary, json.dumps(content, indent=2) + "\n")
        return [str(summary), str(examples)]

    @classmethod
    def read(cls, path: str | pathlib.Path) -> "Results":
        """Reads a `<name>.json` back, without the rows."""
        try:
            facts = json.loads(storage.read_bytes(storage.place(path)))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error
        if not isinstance(facts, dict) or "metrics" not in facts:
            raise ValueError(f"{path} is not an evaluation's JSON file: no 'metrics'")
        metrics, convention = facts.pop("metrics"), facts.pop("convention", "rahf")
        return cls(metrics=metrics, convention=convention, facts=facts)


def evaluate(
    predict_step: Callable[[Batch], Mapping[str, Any]],
    batches: Iterable[tuple[Batch, Infos]],
    targets: Iterable[str],
    *,
    convention: str = "rahf",
    progress: bool = True,
) -> Results:
    """Predicts every batch and measures the named targets.

    Args:
      predict_step: batch -> `{target name: float[B, ...]}`, with parameters bound.
      batches: pairs of model features and one info (`uid`, `prompt`) per row; a row
        whose weight for a target is 0 is not measured for it.
      targets: names from `rahf.targets`; kinds without metrics are ignored.
      convention: the convention of the metrics (docs/evaluate.md).
      progress: whether to draw a progress bar on stderr.

    Returns:
      The results. Their facts include `seconds` and `truncated`, the number of
      prompts that were cut; words that were cut off are not measured.

    Raises:
      ValueError: a prediction contains NaN, or a target that has examples is not
        predicted.
    """
    check_convention(convention)
    accumulators = {
        row.name: METRICS[row.kind].empty(row, convention=convention)
        for row in select(targets)
        if row.kind in METRICS
    }
    rows: list[dict[str, Any]] = []
    start = time.monotonic()
    # The model works on batch N while the host measures batch N - 1.
    waiting: tuple[Batch, Infos, Mapping[str, Any]] | None = None
    for batch, infos in tqdm(
        batches, desc="evaluate", unit="batch", leave=False, disable=not progress
    ):
        dispatched = predict_step(batch)
        if waiting is not None:
            _measure(accumulators, rows, *waiting)
        waiting = (batch, infos, dispatched)
    if waiting is not None:
        _measure(accumulators, rows, *waiting)
    return Results(
        metrics={name: each.compute() for name, each in accumulators.items()},
        rows=rows,
        convention=convention,
        facts={
            "seconds": round(time.monotonic() - start, 3),
            "truncated": len({row["uid"] for row in rows if row["truncated"]}),
        },
    )


def _measure(
    accumulators: Mapping[str, Accumulator],
    rows: list[dict[str, Any]],
    batch: Batch,
    infos: Infos,
    outputs: Mapping[str, Any],
) -> None:
    """Adds one batch to the accumulators, and its examples to `rows`."""
    for name, accumulator in accumulators.items():
        weights = np.asarray(batch["weights"][name])
        counted = np.flatnonzero(weights > 0).tolist()
        if not counted:
            continue
        if name not in outputs:
            raise ValueError(
                f"{len(counted)} examples ask for target {name!r}, which the model "
                f"does not predict; it predicts {', '.join(outputs)}"
            )
        before = len(accumulator.rows)
        uids = [
            str(infos[i]["uid"]) if i < len(infos) else "" for i in range(len(weights))
        ]
        accumulator.update(
            np.asarray(outputs[name]), accumulator.truth(batch, name), weights, uids
        )
        for index, row in zip(counted, accumulator.rows[before:], strict=True):
            info = infos[index]
            who = {"uid": uids[index], "prompt": info["prompt"], "target": name}
            cut = bool(info.get("truncated"))  # what did not fit was not measured
            rows.append(who | {"truncated": cut} | row)
