"""Scores shards of images: a shard in, a Parquet file out, whole or not at all."""

import dataclasses
import glob
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rahf import durable, images, storage, targets
from rahf.inference.decode import keep_memory
from rahf.inference.decoders import Decoded, Decoders
from rahf.inference.shards import Item, read_items
from rahf.targets import Kind

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction, Predictor

#: The key of an output's metadata that says what made it.
MADE_BY = b"rahf.score"
#: The columns of an output that tell which image a row is of.
IDENTITY = ("id", "prompt", "image", "image_sha256", "image_height", "image_width")
#: The columns' version: those of version 1 did not name the image.
FORMAT = "2"
#: Rows that are kept before they are written, as one row group: with native heatmaps of
#: 384 pixels, 75 MB.
GROUP = 256

_WORDS = pa.list_(
    pa.struct(
        [
            ("text", pa.string()),
            ("probability", pa.float32()),
            ("misaligned", pa.bool_()),
        ]
    )
)


@dataclasses.dataclass(frozen=True)
class ScoreRequest:
    """What to score.

    Attributes:
      shards: the URLs of the shards: .tar, .parquet or .jsonl, local or fsspec's.
      output: the local folder of the Parquet files.
      checkpoint, step: see `rahf.load`.
      batch_size: images at a time; the last batch of a shard is padded.
      heatmaps: "native" for uint8 maps of the model's size, or "none".
      part: (i, n): every n-th shard from the i-th on, counted from 0.
      decoders: the processes that decode images; 0 = threads of this process, which an
        image that crashes its decoder then ends; None = one for each processor.
    """

    shards: Sequence[str]
    output: str
    checkpoint: str
    step: int | str | None = None
    batch_size: int = 16
    heatmaps: str = "none"
    part: tuple[int, int] = (0, 1)
    decoders: int | None = None


def score(request: ScoreRequest) -> str:
    """Scores the shards that have no output yet; returns a summary.

    An output has the shard's name and a digest of its URL. It is written under a
    temporary name and renamed when complete, by the one process that holds the shard's
    lock, so that a shard is done once however many processes run, and from its start
    again where one was killed. A shard that cannot be read stops nothing else.

    Raises:
      ValueError: an option is wrong, an output is of another checkpoint or other
        settings, the folder cannot be written to, or, after all others, shards could
        not be read.
    """
    keep_memory()
    prepared = prepare(request)
    predictor = prepared.predictor
    processes = request.decoders
    if processes is None:
        processes = len(os.sched_getaffinity(0))
    with Decoders(predictor.config.input.image_size, processes) as decoders:
        return _score_shards(prepared, decoders, request)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A model that is ready, and where its outputs go.

    Attributes:
      predictor: the model.
      folder: the folder of the outputs.
      made_by: what the outputs say of their origin.
    """

    predictor: "Predictor"
    folder: pathlib.Path
    made_by: dict[str, str]


def prepare(request: ScoreRequest) -> Prepared:
    """Restores the model; raises ValueError as `score` does."""
    first, of = request.part
    if not 0 <= first < of:
        raise ValueError(f"--shard={first}/{of}: expected 0/{of} to {of - 1}/{of}")
    import rahf
    from rahf.checkpoints import identity, restore

    folder = durable.check_folder(request.output)
    workdir, step = restore.split_step(request.checkpoint, request.step)
    predictor = rahf.load(workdir, step)
    made_by = {
        "checkpoint": f"{storage.absolute(storage.place(workdir))}, step "
        f"{predictor.step}",
        "checkpoint_digest": identity.digest_of(
            workdir, predictor.step, predictor.params
        ),
        "heatmaps": request.heatmaps,
        "format": FORMAT,
    }
    if predictor.intervals:
        made_by["intervals"] = f"{predictor.intervals.level:g}"
    if _measures_distance(predictor):
        made_by["distance"] = "percent"
    return Prepared(predictor, folder, made_by)


def part_of(request: ScoreRequest) -> list[str]:
    """Returns the shards of this process, each once in whatever way it is named."""
    first, of = request.part
    by_output: dict[str, str] = {}
    for url in request.shards:
        by_output.setdefault(output_name(url), url)
    return list(by_output.values())[first::of]


def _score_shards(prepared: Prepared, decoders: Decoders, request: ScoreRequest) -> str:
    predictor, folder, made_by = prepared.predictor, prepared.folder, prepared.made_by
    done, before, busy, problems = 0, 0, 0, []
    for url in part_of(request):
        path = folder / output_name(url)
        try:
            with durable.locked(folder / ".locks" / path.stem, "scoring"):
                if path.exists():
                    check_made_by(path, made_by)
                    before += 1
                else:
                    for left in folder.glob(f".{glob.escape(path.name)}.*"):
                        left.unlink()  # half an output, of a killed process
                    done += _score_shard(
                        predictor, decoders, url, path, request, made_by
                    )
        except durable.FolderInUseError:
            busy += 1
        except UnreadableShardError as error:
            problems.append(str(error))
        except OSError as error:
            raise ValueError(
                f"--output={folder}: cannot be written to ({error.strerror or error}); "
                "once it can be, run the same command to continue"
            ) from error
    return summarise(folder, done, before, busy, problems)


def summarise(
    folder: pathlib.Path, done: int, before: int, busy: int, problems: Sequence[str]
) -> str:
    """Returns a summary; raises ValueError with it if shards could not be read."""
    summary = (
        f"{folder}: {done} images scored; {before} shards done before, {busy} in the "
        f"hands of other processes, {len(problems)} unreadable"
    )
    if problems:
        raise ValueError("\n".join([summary, *problems]))
    return summary


class UnreadableShardError(ValueError):
    """A shard cannot be read; the others can be scored."""


def output_name(url: str) -> str:
    """Returns the file name of a shard's output, another for each URL."""
    text = url if "://" in url else os.path.abspath(url)
    stem = pathlib.PurePath(text).stem[:150]
    return f"{stem}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:12]}.parquet"


def check_made_by(path: pathlib.Path, made_by: dict[str, str]) -> None:
    """Raises ValueError if an output is of another checkpoint or other settings."""
    try:
        found = json.loads((pq.read_metadata(path).metadata or {})[MADE_BY])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: damaged, or not written by rahf.bin.score ({error!r}); remove it "
            "to score its shard again, or choose another --output"
        ) from error
    for key in (
        "format",
        "checkpoint_digest",
        "heatmaps",
        "intervals",
        "distance",
    ):  # a moved workdir is the same
        if found.get(key) != made_by.get(key):
            raise ValueError(
                f"{path}: expected an output of {key} {made_by.get(key)} "
                f"({made_by['checkpoint']}), got {found.get(key)} "
                f"({found.get('checkpoint')}); choose another --output"
            )


def _score_shard(
    predictor: "Predictor",
    decoders: Decoders,
    url: str,
    path: pathlib.Path,
    request: ScoreRequest,
    made_by: dict[str, str],
) -> int:
    schema = make_schema(predictor, request.heatmaps)
    schema = schema.with_metadata({MADE_BY: json.dumps(made_by).encode()})
    number, rows = 0, []
    with durable.writing(path) as temporary, pq.ParquetWriter(temporary, schema) as out:
        for batch in decoders.batches(read_shard(url), request.batch_size):
            rows += score_batch(predictor, batch, request.batch_size, request.heatmaps)
            number += len(batch)
            if len(rows) >= GROUP:
                out.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()
        if rows:
            out.write_table(pa.Table.from_pylist(rows, schema))
    return number


def read_shard(url: str) -> Iterator[Item]:
    """Yields the images of a shard; raises UnreadableShardError where it is cut."""
    try:
        yield from read_items(url)
    except ValueError as error:
        text = str(error)
        text = text if text.startswith(url) else f"{url}: {text}"
        raise UnreadableShardError(text) from error


def make_schema(predictor: "Predictor", heatmaps: str) -> pa.Schema:
    """Returns the columns of an output: which image (`image` is its place, as
    `image_places` has it), a score each, their intervals, the distance from the training
    images if it is known, words, heatmaps as uint8 bytes row by row with their side, and
    error."""

    def named(kind):
        return [n for n in predictor.targets if targets.get(n).kind is kind]

    columns = [(name, pa.string()) for name in IDENTITY[:4]]
    columns += [(name, pa.int32()) for name in IDENTITY[4:]]
    columns += [(name, pa.float32()) for name in named(Kind.SCORE)]
    if predictor.intervals:
        ends = pa.struct([("low", pa.float32()), ("high", pa.float32())])
        calibrated = [n for n in named(Kind.SCORE) if n in predictor.intervals.offsets]
        columns.append(("intervals", pa.struct([(n, ends) for n in calibrated])))
    if _measures_distance(predictor):
        columns.append(("distance", pa.float32()))
    columns += [("words", _WORDS), ("prompt_truncated", pa.bool_())]
    if heatmaps == "native":
        columns += [(name, pa.binary()) for name in named(Kind.HEATMAP)]
        columns += [("heatmap_side", pa.int32())]
    return pa.schema([*columns, ("error", pa.string())])


def _measures_distance(predictor: "Predictor") -> bool:
    return predictor.features is not None


def score_batch(
    predictor: "Predictor", batch: Sequence[Decoded], batch_size: int, heatmaps: str
) -> list[dict[str, Any]]:
    """Returns a row for each image, in order; `error` where it cannot be read."""
    rows = [describe(decoded) for decoded in batch]
    pictures = {n: d.square for n, d in enumerate(batch) if d.square is not None}
    if pictures:
        prompts = [batch[number].item.prompt for number in pictures]
        found = predictor.predict(
            list(pictures.values()), prompts, batch_size=batch_size
        )
        for number, prediction in zip(pictures, found, strict=True):
            rows[number] |= describe_prediction(prediction, heatmaps)
    return rows


def describe(decoded: Decoded) -> dict[str, Any]:
    """Returns the columns that say which image it is, and its error."""
    item = decoded.item
    row = {"id": item.id, "prompt": item.prompt, "image": item.place or None}
    if decoded.fault:
        return row | {"error": decoded.fault}
    height, width = decoded.size
    row["image_sha256"] = decoded.digest
    return row | {"image_height": height, "image_width": width}


def describe_prediction(prediction: "Prediction", heatmaps: str) -> dict[str, Any]:
    """Returns the columns of what was predicted.

    Raises:
      ValueError: a score is not finite.
    """
    row: dict[str, Any] = {
        **prediction.scores,
        "words": [dataclasses.asdict(word) for word in prediction.words],
        "prompt_truncated": prediction.prompt_truncated,
    }
    if prediction.intervals:
        row["intervals"] = {
            name: {"low": low, "high": high}
            for name, (low, high) in prediction.intervals.items()
        }
    if prediction.distance is not None:
        row["distance"] = prediction.distance
    wrong = {k: v for k, v in prediction.scores.items() if not np.isfinite(v)}
    if wrong:
        raise ValueError(f"expected finite scores, got {wrong}; is the model trained?")
    if heatmaps == "native":
        for name, heatmap in prediction.heatmaps.items():
            row[name] = images.to_bytes(np.asarray(heatmap)).tobytes()
            row["heatmap_side"] = len(heatmap)
    return row
