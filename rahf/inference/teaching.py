"""Asks a trained model about unlabelled pictures, once, and keeps what it says.

The folder is that of `rahf.datasets.distilled`. It is written part by part, each whole or
not at all, so that asking goes on where it was stopped.
"""

import concurrent.futures
import dataclasses
import io
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from rahf import durable, images, storage, targets, words
from rahf.datasets import distilled
from rahf.inference import image_places
from rahf.inference.unlabelled import UnlabelledPicture, UnlabelledPictures
from rahf.input.augmentation import may_mirror
from rahf.targets import Kind

if TYPE_CHECKING:
    from rahf.inference.predictor import Prediction, Predictor

#: Rows that are kept in memory before they are written.
_ROWS = 256


@dataclasses.dataclass(frozen=True)
class TeachRequest:
    """Whom to ask, and how.

    Attributes:
      teacher, step: see `rahf.load`.
      cache: the local folder to write to.
      side: the least side of the pictures kept, for students that see more than their
        teacher.
      mirrored: whether to ask about each picture a second time, mirrored, unless its
        prompt speaks of left or right.
      skip: whether to record pictures that cannot be read, instead of stopping.
      batch_size: pictures at a time.
    """

    teacher: str
    step: int | str | None
    cache: str
    side: int = 0
    mirrored: bool = False
    skip: bool = False
    batch_size: int = 64


def teach(request: TeachRequest, pictures: UnlabelledPictures) -> str:
    """Writes a teacher's predictions; returns a summary.

    A folder that is complete is left as it is; parts that exist are not asked for again.

    Raises:
      ValueError: the checkpoint cannot be loaded; the folder is of another teacher, of
        other pictures or in use, or cannot be written to; or a picture cannot be read.
    """
    import rahf
    from rahf.checkpoints import identity, restore

    folder = durable.check_folder(request.cache, flag="--cache")
    workdir, step = restore.split_step(request.teacher, request.step)
    predictor = rahf.load(workdir, step)
    about = {
        "teacher": {
            "path": str(storage.absolute(storage.place(workdir))),
            "step": predictor.step,
            "digest": identity.digest_of(workdir, predictor.step, predictor.params),
            "targets": list(predictor.targets),
        },
        "pictures": dict(pictures.identity),
        "side": max(request.side, predictor.config.input.image_size),
        "mirrored": request.mirrored,
    }
    with durable.locked(folder, "asking a teacher"):
        try:
            _begin(folder, about)
            if not (folder / distilled.COMPLETE_FILE).exists():
                _ask(predictor, request, pictures, folder, about["side"])
        except OSError as error:
            raise ValueError(
                f"--cache={folder}: cannot be written to ({error.strerror or error}); "
                "once it can be, the same command goes on"
            ) from error
    return summarise(folder)


def summarise(folder: pathlib.Path) -> str:
    """Returns in a line what a complete folder holds."""
    complete, about = distilled.read_complete(folder), distilled.read_teacher(folder)
    rows = sum(count for _, count in complete["parts"]) - complete["unreadable"]
    teacher = about["teacher"]
    return (
        f"{folder}: {rows:,} pictures with what {teacher['path']}, step "
        f"{teacher['step']}, says of them; {complete['unreadable']:,} could not be read, "
        f"{complete['cut']:,} prompts are longer than it reads"
    )


def _begin(folder: pathlib.Path, about: Mapping[str, Any]) -> None:
    """Writes whose predictions the folder will hold, or compares it with this."""
    path = folder / distilled.TEACHER_FILE
    if not path.exists():
        durable.write_text(path, json.dumps(about, indent=2))
        return
    found = distilled.read_teacher(folder)
    there, here = _identity(found), _identity(about)
    for key in here:
        if there.get(key) != here[key]:
            raise ValueError(
                f"--cache={folder} holds another teacher's predictions, or of other "
                f"pictures: {key} was {there.get(key)!r}, now {here[key]!r}; choose "
                "another --cache"
            )


def _identity(about: Mapping[str, Any]) -> dict[str, Any]:
    teacher = about.get("teacher", {})  # a moved workdir is the same teacher
    return {
        "the teacher's digest": teacher.get("digest"),
        "the pictures": about.get("pictures"),
        "the side of pictures": about.get("side"),
        "mirrored": about.get("mirrored"),
    }


def _ask(
    predictor: "Predictor",
    request: TeachRequest,
    pictures: UnlabelledPictures,
    folder: pathlib.Path,
    side: int,
) -> None:
    for left in folder.glob(".part-*"):  # half a part, of a killed process
        left.unlink()
    schema, parts = make_schema(predictor), []
    unreadable, cut = 0, 0
    judges_words = distilled.WORDS.name in predictor.targets
    with tqdm(total=pictures.total, unit="picture", desc="asking the teacher") as bar:
        for number, read in enumerate(pictures.parts):
            path = folder / f"part-{number:05d}.arrow"
            if path.exists():
                names = distilled.open_part(path).column("id").to_pylist()
                own = [n for n in names if not n.endswith(distilled.MIRRORED)]
                bar.update(len(own))
                bar.initial += len(own)  # the rate is of what is asked now
            else:
                _write_part(predictor, request, side, read(), path, schema, bar)
            table = distilled.open_part(path)
            failed = len(table) - table.column(distilled.ERROR).null_count
            unreadable += failed
            if judges_words:
                cut += table.column(distilled.CHANCES).null_count - failed
            parts.append([path.name, len(table)])
    if unreadable == sum(count for _, count in parts):
        raise ValueError(
            f"--cache={folder}: none of the {unreadable:,} pictures could be read; the "
            f"column {distilled.ERROR!r} of {parts[0][0] if parts else 'none'} says why"
        )
    durable.write_text(
        folder / distilled.COMPLETE_FILE,
        json.dumps({"parts": parts, "unreadable": unreadable, "cut": cut}),
    )


def make_schema(predictor: "Predictor") -> Any:
    """Returns the columns of a part, for what a model predicts."""
    import pyarrow as pa

    of_kind = {
        Kind.SCORE: pa.float32(),
        Kind.HEATMAP: pa.binary(),
    }
    rows = targets.select(predictor.targets)
    return pa.schema(
        [
            ("id", pa.string()),
            ("prompt", pa.string()),
            ("image", pa.binary()),
            *((row.name, of_kind[row.kind]) for row in rows if row.kind in of_kind),
            (distilled.CHANCES, pa.list_(pa.float32())),
            (distilled.ERROR, pa.string()),
        ]
    )


def _write_part(
    predictor: "Predictor",
    request: TeachRequest,
    side: int,
    pictures: Iterator[UnlabelledPicture],
    path: pathlib.Path,
    schema: Any,
    bar: tqdm,
) -> None:
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    with (
        durable.writing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as out,
    ):

        def write() -> None:
            out.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            rows.clear()

        for batch in _prepared(pictures, side, request.batch_size):
            rows += _answers(predictor, request, batch)
            bar.update(len(batch))
            if len(rows) >= _ROWS:
                write()
        if rows:
            write()


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """A picture in memory: its square uint8[S, S, 3], or why it cannot be read."""

    picture: UnlabelledPicture
    square: np.ndarray | None
    fault: str


def _prepared(
    pictures: Iterator[UnlabelledPicture], side: int, size: int
) -> Iterator[list[_Prepared]]:
    """Yields batches; the next one is read and resized while the model has this one."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ahead: list[concurrent.futures.Future] | None = None
        while True:
            batch = [
                threads.submit(_prepare, picture, side)
                for picture in itertools.islice(pictures, size)
            ]
            if ahead:
                yield [future.result() for future in ahead]
            if not batch:
                return
            ahead = batch


def _prepare(picture: UnlabelledPicture, side: int) -> _Prepared:
    try:
        if picture.fault:
            raise ValueError(picture.fault)
        image = picture.image
        if not isinstance(image, np.ndarray):
            if isinstance(image, str) and not image_places.is_file(image):
                image = image_places.read(image)
            image = images.read_image(image)
        return _Prepared(picture, images.resize(image, (side, side)), "")
    except (ValueError, OSError) as error:
        return _Prepared(picture, None, str(error))


def _answers(
    predictor: "Predictor", request: TeachRequest, batch: Sequence[_Prepared]
) -> list[dict[str, Any]]:
    """Returns a row for each picture and each mirrored one, and for each that fails."""
    rows, asked = [], []
    for each in batch:
        name, prompt = each.picture.id, each.picture.prompt
        if each.square is None:
            if not request.skip:
                raise ValueError(
                    f"{name}: {each.fault}; --on_error=skip records it and goes on"
                )
            rows.append({"id": name, "prompt": prompt, distilled.ERROR: each.fault})
            continue
        asked.append((name, prompt, each.square))
        if request.mirrored and may_mirror(prompt):
            other = np.ascontiguousarray(each.square[:, ::-1])
            asked.append((name + distilled.MIRRORED, prompt, other))
    if asked:
        names, prompts, squares = zip(*asked, strict=True)
        found = predictor.predict(squares, prompts, batch_size=request.batch_size)
        rows += [
            _row(*each) for each in zip(names, prompts, squares, found, strict=True)
        ]
    return rows


def _row(
    name: str, prompt: str, square: np.ndarray, prediction: "Prediction"
) -> dict[str, Any]:
    wrong = {k: v for k, v in prediction.scores.items() if not np.isfinite(v)}
    if wrong:
        raise ValueError(
            f"expected finite scores, got {wrong}; is the teacher trained?"
        )
    row: dict[str, Any] = {
        "id": name,
        "prompt": prompt,
        "image": _png(square),
        **prediction.scores,
    }
    row |= {
        k: distilled.pack_map(np.asarray(v)) for k, v in prediction.heatmaps.items()
    }
    # Words that the teacher did not read have no probability.
    if len(prediction.words) == len(words.split(prompt)):
        row[distilled.CHANCES] = [word.probability for word in prediction.words]
    return row


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
