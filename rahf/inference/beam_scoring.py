"""Scores shards with Apache Beam: the same outputs as `rahf.inference.scoring` alone.

    shards -> decode -> good images -> RunInference -> \\
                     -> bad images  ------------------> rows of a shard -> its file

Bad images never reach the model: RunInference's own dead letters take whole batches. The
rows of a shard come together by a GroupByKey, are put in order, and are written under a
temporary name that is renamed, as without Beam; a shard that has an output is not read.
"""

# The type checker runs in an environment without Beam (see setup.py).
# pyright: reportMissingImports=false

import contextlib
import dataclasses
import json
import pathlib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rahf import durable, extras
from rahf.inference import scoring
from rahf.inference.decoders import Decoded, decode_item
from rahf.inference.scoring import ScoreRequest

with extras.needing("beam", "--runner"):
    import apache_beam as beam
    from apache_beam.ml.inference.base import (
        KeyedModelHandler,
        ModelHandler,
        RunInference,
    )
    from apache_beam.options.pipeline_options import PipelineOptions

if TYPE_CHECKING:
    from rahf.inference.predictor import Predictor

#: What the end of a shard has in place of the number of a row.
_END = -1


@dataclasses.dataclass(frozen=True)
class ScoreWork:
    """What a worker has to know.

    Attributes:
      request: what to score; `shards` is empty.
      made_by: see `scoring.Prepared`.
      side: the side of the model's square.
      schema: the columns of an output.
    """

    request: ScoreRequest
    made_by: dict[str, str]
    side: int
    schema: pa.Schema


class ScoreModel(ModelHandler):
    """Gives Beam the model: one a process, batches of one size."""

    def __init__(self, work: ScoreWork):
        super().__init__()
        self._work = work

    def load_model(self) -> "Predictor":
        """Restores the checkpoint, on a worker.

        Raises:
          ValueError: it is not the one that the command was started with.
        """
        prepared = scoring.prepare(self._work.request)
        key = "checkpoint_digest"
        if prepared.made_by[key] != self._work.made_by[key]:
            raise ValueError(
                f"{self._work.request.checkpoint}: changed while it was used; expected "
                f"{key} {self._work.made_by[key]}, got {prepared.made_by[key]}"
            )
        return prepared.predictor

    def run_inference(
        self,
        batch: Sequence[Decoded],
        model: "Predictor",
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[dict[str, Any]]:
        """Returns a row for each image; the last batch is padded, lest it compile."""
        size = self._work.request.batch_size
        padded = [*batch, *[batch[-1]] * (size - len(batch))]
        heatmaps = self._work.request.heatmaps
        return scoring.score_batch(model, padded, size, heatmaps)[: len(batch)]

    def batch_elements_kwargs(self) -> dict[str, int]:
        """Batches of one size alone: each new size would compile."""
        size = self._work.request.batch_size
        return {"min_batch_size": size, "max_batch_size": size}


def _decode(url: str, work: ScoreWork) -> Iterator[Any]:
    """Yields the images of a shard with their numbers, and what its end was like."""
    number = 0
    try:
        for item in scoring.read_shard(url):
            decoded = decode_item(item, work.side)
            place = (url, number)
            if decoded.fault:
                row = scoring.describe(decoded)
                yield beam.pvalue.TaggedOutput("bad", (url, (number, row)))
            else:
                yield place, decoded
            number += 1
        end = {"rows": number}
    except scoring.UnreadableShardError as error:
        end = {"problem": str(error)}
    yield beam.pvalue.TaggedOutput("bad", (url, (_END, end)))


def _by_shard(scored: Any) -> tuple[str, tuple[int, dict]]:
    (url, number), row = scored
    return url, (number, row)


def _write(shard: tuple[str, Iterable[tuple[int, dict]]], work: ScoreWork) -> int:
    """Writes the output of a shard, or the reason why it has none; returns its rows."""
    url, numbered = shard
    rows = dict(numbered)  # a bundle that was run twice gives the same rows twice
    end = rows.pop(_END)
    folder = pathlib.Path(work.request.output)
    path = folder / scoring.output_name(url)
    if "problem" in end:
        durable.write_text(_problem_file(folder, url), json.dumps(end["problem"]))
        return 0
    if len(rows) != end["rows"]:
        raise ValueError(f"{url}: {len(rows)} of {end['rows']} rows came through Beam")
    ordered = [rows[number] for number in sorted(rows)]
    with durable.locked(folder / ".locks" / path.stem, "scoring"):
        if path.exists():  # of a process without Beam, or of a bundle that was rerun
            return 0
        with (
            durable.writing(path) as temporary,
            pq.ParquetWriter(temporary, work.schema) as out,
        ):
            for start in range(0, len(ordered), scoring.GROUP):
                part = ordered[start : start + scoring.GROUP]
                out.write_table(pa.Table.from_pylist(part, work.schema))
    return len(ordered)


def _problem_file(folder: pathlib.Path, url: str) -> pathlib.Path:
    return folder / ".locks" / f"{scoring.output_name(url)}.problem"


def score(request: ScoreRequest, runner: str, options: str = "") -> str:
    """Scores the shards that have no output yet on a Beam runner; returns a summary.

    Args:
      request: what to score. Shards, checkpoint and output must have the same paths on
        all workers.
      runner: "DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner", ...
      options: Beam's flags, as on a command line.

    Raises:
      ValueError: see `scoring.score`.
    """
    prepared = scoring.prepare(request)
    folder, before, todo = prepared.folder, 0, []
    for url in scoring.part_of(request):
        if (path := folder / scoring.output_name(url)).exists():
            scoring.check_made_by(path, prepared.made_by)
            before += 1
        else:
            todo.append(url)
    locks = folder / ".locks"
    locks.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(durable.locked(locks / "beam", "scoring with Beam"))
        for left in locks.glob("*.problem"):
            left.unlink()
        if todo:
            schema = scoring.make_schema(prepared.predictor, request.heatmaps)
            schema = schema.with_metadata(
                {scoring.MADE_BY: json.dumps(prepared.made_by).encode()}
            )
            work = ScoreWork(
                dataclasses.replace(request, shards=()),
                prepared.made_by,
                prepared.predictor.config.input.image_size,
                schema,
            )
            _run(work, todo, runner, options)
        problems = [
            json.loads(file.read_text())
            for url in todo
            if (file := _problem_file(folder, url)).exists()
        ]
    made = [folder / scoring.output_name(url) for url in todo]
    done = sum(pq.read_metadata(path).num_rows for path in made if path.exists())
    return scoring.summarise(folder, done, before, 0, problems)


def _run(work: ScoreWork, todo: Sequence[str], runner: str, options: str) -> None:
    """Runs the pipeline.

    Raises:
      ValueError: it fails, for whatever reason of the runner's or of a worker's.
    """
    try:
        flags = PipelineOptions(shlex.split(options), runner=runner)
        with beam.Pipeline(options=flags) as pipeline:
            _build(pipeline, work, todo)
    except Exception as error:
        text = str(error)
        text = (
            text if len(text) < 1000 else f"... {text[-1000:]}"
        )  # ends with the cause
        raise ValueError(
            f"--runner={runner} failed: {type(error).__name__}: {text}\nOutputs that are "
            "complete stay; the same command goes on"
        ) from error


def _build(pipeline: Any, work: ScoreWork, todo: Sequence[str]) -> None:
    decoded = (
        pipeline
        | "shards" >> beam.Create(list(todo))
        | "spread" >> beam.Reshuffle()
        | "decode" >> beam.FlatMap(_decode, work).with_outputs("bad", main="good")
    )
    scored = (
        decoded.good
        | "score" >> RunInference(KeyedModelHandler(ScoreModel(work)))
        | "by shard" >> beam.Map(_by_shard)
    )
    _ = (
        (scored, decoded.bad)
        | beam.Flatten()
        | "rows of a shard" >> beam.GroupByKey()
        | "write" >> beam.Map(_write, work)
    )
