"""Predictions on disk, of any tool, found by the name of a labelled image.

They are what rahf.bin.predict or rahf.bin.score wrote, or JSON lines with at least

    {"id": "boat", "scores": {"overall": 0.7}}

docs/evaluate.md ("Predictions of other tools") has all fields.
"""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import images
from rahf.applications import scored_shards
from rahf.applications.prediction_lines import read_lines, same_checkpoint
from rahf.inference import image_places

_LINE = (
    '{"id": the image\'s name, "scores": {name: number}, "words": [{"text": word, '
    '"probability": number}], "heatmaps": {name: path of a PNG}}, the last three as far '
    "as they are predicted"
)
#: Scores of other ranges follow another convention; this is for rounding.
_ROUNDING = 1e-6
#: What rated images append to the path of an image that has several rows.
_ROW = re.compile(r" \(row \d+\)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictedImage:
    """What a line says of an image.

    Attributes:
      place: file and line.
      id: the line's id; the image's name where it has none.
      image: the path of the image, "" if the line has none.
      prompt: the prompt that it was judged against, None if the line has none.
      scores: `{name: value in [0, 1]}`.
      words: the probability that each word is misaligned; None if there are none.
      texts: the words.
      heatmaps: `{name: place}`, as `scored_shards.read_heatmap` reads them.
    """

    place: str
    id: str
    image: str
    prompt: str | None
    scores: Mapping[str, float]
    words: tuple[float, ...] | None
    texts: tuple[str, ...]
    heatmaps: Mapping[str, str]

    def heatmap(self, name: str, size: tuple[int, int]) -> np.ndarray:
        """Returns float32[size] in [0, 1]; raises ValueError if it cannot be read."""
        try:
            found = scored_shards.read_heatmap(self.heatmaps[name])
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.place}: heatmap {name!r}: {error}") from error
        return images.resize(found, size)


class PredictedImages:
    """The predictions of a file or folder.

    All lines are kept in memory, without the heatmaps: about 2 kB each.

    Attributes:
      source: the path as given.
      folder: the folder that holds them.
      made_by: the fields `checkpoint` and `checkpoint_digest` of the lines.
      errors: how many images could not be read when they were predicted.
      heatmaps, scores: the names that lines have.
      has_words: whether any line has words.
    """

    def __init__(self, source: str | os.PathLike):
        """Reads all lines.

        Args:
          source: predictions.jsonl, Parquet files of rahf.bin.score, JSON lines of
            another tool, or a folder or glob of one of them.

        Raises:
          ValueError: a line is malformed, an id appears twice, a score is not in
            [0, 1], or the lines are of several checkpoints.
        """
        self.source = os.fspath(source)
        self.errors, self.made_by = 0, {}
        self._images: list[PredictedImage] = []
        self._by_id: dict[str, PredictedImage] = {}
        self._tails: dict[int, dict[tuple[str, ...], list[PredictedImage]]] = {}
        folder, first = None, ""
        for place, file, row in read_lines(source, _LINE):
            folder = folder or file.parent
            made_by = _made_by(place, row)
            if first and not same_checkpoint(self.made_by, made_by):
                raise ValueError(
                    f"{place}: expected predictions of {_named(self.made_by)} as in "
                    f"{first}, got one of {_named(made_by)}; name one folder for each"
                )
            first, self.made_by = first or place, self.made_by or made_by
            if "error" in row:
                self.errors += 1
                continue
            self._add(_read(place, row, file.parent))
        if folder is None or not self._images:
            raise ValueError(
                f"{source}: no predicted images ({self.errors} could not be read when "
                f"they were predicted); expected lines of {_LINE}"
            )
        self.folder = pathlib.Path(folder)
        every = self._images
        self.scores = tuple(dict.fromkeys(n for each in every for n in each.scores))
        self.heatmaps = tuple(dict.fromkeys(n for each in every for n in each.heatmaps))
        self.has_words = any(each.words is not None for each in every)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[PredictedImage]:
        return iter(self._images)

    def examples(self, number: int = 3) -> list[str]:
        """Returns the first ids."""
        return [each.id for each in self._images[:number]]

    def find(self, uid: str, prompt: str) -> PredictedImage | None:
        """Returns the prediction of a labelled image, or None.

        It is the line of this id, or else of the image whose path ends so, with or
        without suffix. Of several such lines it is the one with this prompt.

        Args:
          uid: the name of the labelled image, as datasets have it.
          prompt: its prompt.

        Raises:
          ValueError: the image was judged against another prompt, or several lines
            may be meant.
        """
        found = self._by_id.get(uid)
        named = [found] if found else self._by_path(_ROW.sub("", uid))
        meant = [x for x in named if x.prompt is None or _same(x.prompt, prompt)]
        if named and not meant:
            raise ValueError(
                f"{named[0].place}: image {uid!r} was judged against prompt "
                f"{named[0].prompt!r}, but is labelled for {prompt!r}; are these "
                "predictions of other data?"
            )
        if len(meant) > 1:
            raise ValueError(
                f"{meant[0].place} and {meant[1].place} may both be predictions of "
                f"image {uid!r}; give them ids"
            )
        return meant[0] if meant else None

    def _add(self, image: PredictedImage) -> None:
        if other := self._by_id.get(image.id):
            raise ValueError(
                f"{image.place}: id {image.id!r} appears twice, first in "
                f"{other.place}; keep one of the lines"
            )
        self._images.append(image)
        self._by_id[image.id] = image

    def _by_path(self, uid: str) -> list[PredictedImage]:
        wanted = pathlib.PurePosixPath(uid).parts
        size = len(wanted)
        if size not in self._tails:
            tails: dict[tuple[str, ...], list[PredictedImage]] = {}
            for image in filter(lambda each: each.image, self._images):
                path = pathlib.PurePosixPath(image.image)
                for whole in {path, path.with_suffix("")}:
                    tails.setdefault(whole.parts[-size:], []).append(image)
            self._tails[size] = tails
        return self._tails[size].get(wanted, [])


def _made_by(place: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
            f"{place}: expected {_LINE}, got {row!r:.60}"
        )
    return {name: row.get(name) for name in ("checkpoint", "checkpoint_digest")}


def _named(made_by: Mapping[str, Any]) -> str:
    return f"checkpoint {made_by.get('checkpoint')!r}"


def _same(one: str, other: str) -> bool:
    return one.split() == other.split()


def _read(place: str, row: Mapping[str, Any], folder: pathlib.Path) -> PredictedImage:
    try:
        image, id_, prompt = row.get("image") or "", row.get("id"), row.get("prompt")
        if id_ is None and not image:
            raise ValueError("neither id nor image names the image")
        path = image_places.absolute(image, folder) if image else ""
        texts, words = _words(row.get("words"))
        if not words and (prompt is None or prompt.strip()):
            words = None  # words of a prompt, not predicted
        return PredictedImage(
            place=place,
            id=pathlib.PurePath(image).stem if id_ is None else str(id_),
            image=path,
            prompt=prompt,
            scores={
                name: _in_unit(f"score {name!r}", value)
                for name, value in (row.get("scores") or {}).items()
            },
            words=words,
            texts=texts,
            heatmaps={
                name: image_places.absolute(each, folder)
                for name, each in (row.get("heatmaps") or {}).items()
            },
        )
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{place}: expected {_LINE}, got {row!r:.80} ({error!r})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _words(
    given: Sequence[Mapping[str, Any]] | None,
) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    if given is None:
        return (), None
    texts = tuple(str(word["text"]) for word in given)
    values = (
        float(word["misaligned"]) if "probability" not in word else word["probability"]
        for word in given
    )
    return texts, tuple(_in_unit("a word's probability", value) for value in values)


def _in_unit(what: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ValueError(f"{what}: expected a finite number, got {value!r:.60}")
    if not -_ROUNDING <= value <= 1 + _ROUNDING:
        raise ValueError(
            f"{what}: expected a number in [0, 1], got {value:g}; labels are (mean "
            "answer of 1 to 5, minus 1) / 4: convert other scales to that first"
        )
    return min(max(float(value), 0.0), 1.0)
