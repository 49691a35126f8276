"""Predictions -> a training set of the chosen images, as rahf.bin.select does.

request.json     what was asked for
selection.json   how many were chosen, the threshold, the yield at each threshold
manifest.jsonl   one line per image: whether it was chosen, and why
images/, shards/ or pairs/   see `rahf.applications.training_sets`
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rahf import durable
from rahf.applications import result_folder, scored_shards, training_sets
from rahf.applications.predictions import (
    Predictions,
    json_line,
    read_predictions,
    why_unusable,
)
from rahf.applications.selection import (
    Choice,
    NothingChosenError,
    Rule,
    choose,
    draw_control,
    find_worst,
    meets,
)
from rahf.applications.training_sets import ChosenImage, ChosenPair, Names
from rahf.applications.weighting import PlaceWeights
from rahf.inference import image_places
from rahf.weights.output import check_space

FORMATS = ("images", "shards", "pairs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionRequest:
    """What to choose and how to write it.

    Attributes:
      predictions: files or folders of predictions.
      rule: what is chosen.
      output: the folder to write.
      format: one of `FORMATS`.
      margin: the least difference of a pair's values.
      control: whether to write as many images (or pairs) drawn at random instead.
      seed: the seed of the draw, and of a pair's sides.
      link: whether to link images instead of copying them.
      on_error: "fail", or "skip" to leave out images that are gone or changed, and
        lines without a score.
      weigh: the heatmap to make weights of the loss from, see `PlaceWeights.parse`.
    """

    predictions: Sequence[str]
    rule: Rule
    output: str
    format: str = "images"
    margin: float = 0.0
    control: bool = False
    seed: int = 0
    link: bool = False
    on_error: str = "fail"
    weigh: str = ""

    @property
    def weights(self) -> PlaceWeights | None:
        """How weights are made; None if there shall be none."""
        return PlaceWeights.parse(self.weigh) if self.weigh else None

    def __post_init__(self):
        if self.weights and self.format != "images":
            raise ValueError("--weigh is for --format=images")
        if self.format == "pairs" and self.rule.keep != 1:
            raise ValueError("--format=pairs takes the best of a prompt: --keep=1")
        if self.margin and self.format != "pairs":
            raise ValueError("--margin is for --format=pairs")
        if self.link and self.format != "images":
            raise ValueError("--link is for --format=images")


def select(
    request: SelectionRequest,
    draw: Callable[[pathlib.Path, Choice, str], None] | None = None,
) -> str:
    """Chooses images and writes the training set.

    Args:
      request: what to do.
      draw: draws the yield curve into the folder, given the choice and what it is by.

    Returns:
      The yield curve and what was written, for people to read.

    Raises:
      ValueError: nothing passes, an image is gone, or the folder holds something else;
        nothing was written.
    """
    found = read_predictions(
        request.predictions, request.rule.names(), on_error=request.on_error
    )
    identity = _identity(request, found)
    if result_folder.is_complete(request.output, identity):
        return f"{request.output}: complete already; nothing was written"
    chooser = _Chooser(request, found)
    chooser.choose()
    with result_folder.making(request.output, identity, chooser.plan()) as folder:
        if not request.link:
            check_space(folder, chooser.size())
        _write_manifest(folder, chooser, _write(folder, chooser))
        durable.write_text(
            folder / "selection.json", json.dumps(chooser.facts(), indent=2) + "\n"
        )
        if draw is not None:
            draw(folder, chooser.choice, str(request.rule.by))
    return f"{chooser.choice.curve.table()}\n\n{request.output}: {chooser}"


def _identity(request: SelectionRequest, found: Predictions) -> dict[str, Any]:
    asked = dataclasses.asdict(request)
    del asked["output"], asked["predictions"]
    if not request.weigh:
        del asked["weigh"]  # as earlier versions wrote it
    return {"command": "select", "predictions_sha256": found.digest, **asked}


class _Chooser:
    """Chooses among images that still exist, and says why each was chosen or not.

    Attributes:
      choice: what the rule chose.
      written: bool[N], what is written: chosen, in a pair, or drawn.
      pairs: the better image of each pair -> the worse one.
      gone: images that cannot be used -> why.
    """

    choice: Choice
    written: np.ndarray

    def __init__(self, request: SelectionRequest, found: Predictions):
        self.request, self.found = request, found
        self.gone: dict[int, str] = {}
        self.pairs: dict[int, int] = {}
        self._able = found.distinct.copy()  # to be chosen
        self._there = found.distinct.copy()  # to be written
        self._checked = np.zeros(len(found), bool)
        self._bytes = np.zeros(len(found), np.int64)

    def choose(self) -> None:
        """Chooses; where an image is gone, again without it.

        The images that the rule chooses are checked for the control too, so that it
        has the same prompts.
        """
        found, seed = self.found, self.request.seed
        while True:
            self.choice = choose(
                self.request.rule, found.names, found.scores, found.prompts, self._able
            )
            needed = self.choice.chosen
            if self.request.format == "pairs":
                needed = self._pair()
            self.written = needed
            if self.request.control:
                self.written = draw_control(needed, found.prompts, self._there, seed)
            lost = self._lose(np.flatnonzero((needed | self.written) & ~self._checked))
            # Also those lost before, when they were the worst of a pair, or drawn.
            stale = self.choice.chosen & ~self._there
            self._able &= ~stale
            if not (lost.any() or stale.any()):
                break
        if self.request.control and self.pairs:
            # The image that comes first stands for the better one: by no score.
            two = np.flatnonzero(self.written)
            two = two[np.argsort(found.prompts[two], kind="stable")]
            self.pairs = {int(one): int(other) for one, other in two.reshape(-1, 2)}

    def _pair(self) -> np.ndarray:
        """Finds the pairs; returns bool[N], their images."""
        margin = self.request.margin
        self.pairs = find_worst(self.choice, self.found.prompts, self._there, margin)
        if not self.pairs:
            apart = f"by {margin:g} or more" if margin else "at all"
            raise NothingChosenError(
                f"no chosen image has another of its prompt that differs {apart} in "
                f"{self.request.rule.by}: no pairs"
            )
        ends = np.zeros(len(self.found), bool)
        ends[[*self.pairs.keys(), *self.pairs.values()]] = True
        return ends

    def _lose(self, numbers: np.ndarray) -> np.ndarray:
        """Returns bool[N], those of these images that are gone or changed."""
        lost: dict[int, str] = {}
        for number, row in zip(numbers, self.found.rows(numbers), strict=True):
            fault = why_unusable(row)
            if self.request.link and not image_places.is_file(row["image"]):
                fault = "is inside a shard, which --link cannot link to"
            weights = self.request.weights
            if weights and not _has_heatmap(row, weights.heatmap):
                fault = f"has no heatmap {weights.heatmap!r} for --weigh"
            if not row["prompt"]:
                fault = "has no prompt, which a training set needs"
            if fault:
                lost[int(number)] = fault
            else:
                self._bytes[number] = image_places.size(row["image"])
        if lost and self.request.on_error != "skip":
            shown = [f"{self.found.row(n)['image']}: {lost[n]}" for n in list(lost)[:3]]
            number = f" ({len(lost)} images in all)" if len(lost) > 3 else ""
            raise ValueError(
                f"{'; '.join(shown)}{number}; nothing was written; use --on_error=skip "
                "to choose without such images"
            )
        self._checked[numbers] = True
        self.gone |= lost
        found = np.zeros(len(self.found), bool)
        found[list(lost)] = True
        self._there &= ~found
        return found

    def plan(self) -> str:
        """Returns a digest of which images are written, and which are better."""
        pairs = np.array(list(self.pairs.items()), np.int64)
        return hashlib.sha256(self.written.tobytes() + pairs.tobytes()).hexdigest()

    def size(self) -> int:
        """Returns the bytes of the images that are written."""
        return int(self._bytes[self.written].sum())

    def images(self) -> Iterator[ChosenImage]:
        """Yields the images to write, in their order."""
        yield from map(Names().image, self.found.rows(np.flatnonzero(self.written)))

    def sides(self) -> Iterator[ChosenPair]:
        """Yields the pairs, the better image on either side at random."""
        values = self.choice.values
        margins: list[float | None] = [None] * len(self.pairs)
        if not self.request.control:
            margins = [float(values[a] - values[b]) for a, b in self.pairs.items()]
        numbers = (number for pair in self.pairs.items() for number in pair)
        images = map(Names().image, self.found.rows(numbers))
        coins = np.random.default_rng(self.request.seed).random(len(self.pairs))
        for coin, better, worse, margin in zip(
            coins, images, images, margins, strict=True
        ):
            sides = (better, worse) if coin < 0.5 else (worse, better)
            yield ChosenPair(*sides, bool(coin < 0.5), margin)

    def facts(self) -> dict[str, Any]:
        """Returns the content of selection.json."""
        choice, found = self.choice, self.found
        return {
            "by": str(self.request.rule.by),
            "threshold": choice.threshold,
            "prompts": choice.curve.prompts,
            "prompts_chosen": len(np.unique(found.prompts[self.written])),
            "images": len(found),
            "images_chosen": int(self.written.sum()),
            "pairs": len(self.pairs),
            "control": self.request.control,
            "copies": int((~found.distinct).sum()),
            "gone": len(self.gone),
            "errors": found.errors,
            "left_out": found.left_out,
            "curve": choice.curve.rows(),
        }

    def __str__(self) -> str:
        facts = self.facts()
        what = f"{facts['images_chosen']:,} of {facts['images']:,} images"
        if self.pairs:
            what = f"{facts['pairs']:,} pairs from {facts['images']:,} images"
        parts = [
            f"{what}, of {facts['prompts_chosen']:,} of {facts['prompts']:,} prompts",
        ]
        if self.request.control:
            parts[0] += ", drawn at random as the control"
        if facts["threshold"] is not None:
            parts.append(f"threshold {facts['threshold']:.6g}")
        counted = (
            ("copies", "copies of an image of the same prompt"),
            ("gone", "images gone, changed or without a prompt"),
            ("errors", "images that predict could not read"),
            ("left_out", "lines left out"),
        )
        parts += [f"{facts[key]:,} {text}" for key, text in counted if facts[key]]
        return "; ".join(parts)


def _write(folder: pathlib.Path, chooser: _Chooser) -> Callable[[int], str]:
    """Writes the images; returns which file each is in."""
    request = chooser.request
    if request.format == "pairs":
        number = len(chooser.pairs)
        files = training_sets.write_pairs(folder, chooser.sides(), number)
        pairs = zip(chooser.pairs.items(), files, strict=True)
        return {n: file for pair, file in pairs for n in pair}.__getitem__
    if request.format == "shards":
        files = training_sets.write_shards(folder, chooser.images())
    else:
        files = training_sets.write_images(
            folder, chooser.images(), link=request.link, weigh=request.weights
        )
    places = np.cumsum(chooser.written) - 1
    return lambda number: files[places[number]]


def _has_heatmap(row: dict[str, Any], name: str) -> bool:
    place = row["heatmaps"].get(name)
    return place is not None and scored_shards.has_heatmap(place)


def _write_manifest(
    folder: pathlib.Path, chooser: _Chooser, file_of: Callable[[int], str]
) -> None:
    """Writes a line per image, which is a line of predictions too."""
    reasons = _Reasons(chooser)
    with (
        durable.writing(folder / "manifest.jsonl") as temporary,
        temporary.open("wb") as file,
    ):
        for number, row in enumerate(chooser.found.rows(range(len(chooser.found)))):
            row.pop("file", None)  # of the manifest that was chosen from
            line = row | {
                "value": round(float(chooser.choice.values[number]), 6),
                "rank": int(chooser.choice.ranks[number]),
                "chosen": bool(chooser.written[number]),
                "reason": reasons.of(number),
            }
            if line["chosen"]:
                line["file"] = file_of(number)
            file.write(json_line(line))


class _Reasons:
    """Says in words why an image was chosen or not."""

    def __init__(self, chooser: _Chooser):
        self._chooser, self._rule = chooser, chooser.request.rule
        found, ranks = chooser.found, chooser.choice.ranks
        self._sizes = np.bincount(
            found.prompts[ranks > 0], minlength=int(found.prompts.max()) + 1
        )
        self._partner = chooser.pairs | {w: b for b, w in chooser.pairs.items()}

    def of(self, number: int) -> str:
        chooser, rule, choice = self._chooser, self._rule, self._chooser.choice
        found, value = chooser.found, float(choice.values[number])
        if number in chooser.gone:
            return chooser.gone[number]
        if found.first[number] != number:  # `distinct` would take O(N)
            return f"the same image as id {found.row(found.first[number])['id']!r}"
        if chooser.request.control:
            drawn = "drawn" if chooser.written[number] else "not drawn"
            return f"{drawn} at random from the images of its prompt"
        if number in self._partner:
            other = self._partner[number]
            apart = abs(value - float(choice.values[other]))
            which = "better" if number in chooser.pairs else "worse"
            return f"{which} than id {found.row(other)['id']!r} by {apart:.6g}"
        scores = found.scores[number : number + 1]
        for name, low in rule.require.items():
            if not meets({name: low}, found.names, scores)[0]:
                has = scores[0, found.names.index(name)]
                return f"{name} {has:.6g} is below the required {low:g}"
        rank, size = choice.ranks[number], self._sizes[found.prompts[number]]
        place = f"number {rank} of {size} of its prompt"
        if rule.keep and rank > rule.keep:
            return f"{place}; {rule.keep} kept"
        compared = "" if choice.threshold is None else f", {rule.by} {value:.6g} is "
        if choice.threshold is not None and value < choice.threshold:
            return f"{place}{compared}below the threshold {choice.threshold:.6g}"
        if not choice.chosen[number]:
            return f"{place}, but not in the best {rule.share:g} of all images"
        if chooser.request.format == "pairs":
            return f"{place}, but the worst is not {chooser.request.margin:g} lower"
        if compared:
            compared += f"at least the threshold {choice.threshold:.6g}"
        return place + compared
