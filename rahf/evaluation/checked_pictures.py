"""How often the check of pictures is wrong, and what it says of a judge.

The check (`rahf.datasets.scenes.picture_check`) knows no model, so it can say whether a judge
still sees what is there on a generator's images, which have no labels. It is wrong at times
itself: on true scenes, whose descriptions are known, that is measured.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from rahf import durable, images
from rahf.datasets.scenes import Scenes
from rahf.datasets.scenes.picture_check import (
    NO,
    UNDECIDABLE,
    YES,
    check_picture,
)
from rahf.evaluation import resampling
from rahf.evaluation.comparison import Estimate
from rahf.evaluation.predicted_images import PredictedImage, PredictedImages
from rahf.evaluation.side_by_side import as_numbers, estimate_means, mean_by_prompt
from rahf.evaluation.text_tables import align
from rahf.inference import image_places


@dataclasses.dataclass
class CheckErrors:
    """How answers compare with the truth.

    Attributes:
      yes, no: how often it said so.
      wrong_yes, wrong_no: how often that was wrong.
      undecidable: how often it said neither.
    """

    yes: int = 0
    no: int = 0
    wrong_yes: int = 0
    wrong_no: int = 0
    undecidable: int = 0

    def add(self, answer: str, truth: bool) -> None:
        """Counts one answer."""
        self.yes += answer == YES
        self.no += answer == NO
        self.undecidable += answer == UNDECIDABLE
        self.wrong_yes += answer == YES and not truth
        self.wrong_no += answer == NO and truth

    def as_json(self) -> dict[str, float]:
        """Returns the counts and shares."""
        decided = self.yes + self.no
        share = lambda part, whole: round(part / whole, 4) if whole else 0.0
        return {
            **dataclasses.asdict(self),
            "decided": share(decided, decided + self.undecidable),
            "error": share(self.wrong_yes + self.wrong_no, decided),
            "error_of_yes": share(self.wrong_yes, self.yes),
            "error_of_no": share(self.wrong_no, self.no),
        }


def measure_check(records: Iterable[Mapping[str, Any]]) -> dict[str, CheckErrors]:
    """Compares the check with what was drawn.

    Args:
      records: of `rahf.datasets.scenes.Scenes`.

    Returns:
      Errors of "color" and "count", statement by statement, and of "picture", where the
      truth is whether every colour and count that the prompt states is drawn.
    """
    found = {name: CheckErrors() for name in ("color", "count", "picture")}
    for record in records:
        truth = true_statements(record["scene"])
        checked = check_picture(record["image"], record["prompt"])
        for each in checked.statements:
            if (each.group, each.statement) in truth:
                found[each.statement].add(
                    each.answer, truth[each.group, each.statement]
                )
        found["picture"].add(checked.answer, all(truth.values()))
    return found


def true_statements(scene: Mapping[str, Any]) -> dict[tuple[int, str], bool]:
    """Returns whether the colour and count of each group that the prompt states are drawn."""
    found = {}
    for index, group in enumerate(scene["groups"]):
        drawn = [thing for thing in scene["objects"] if thing["group"] == index]
        if "color" in group["words"]:
            found[index, "color"] = any(x["color"] == group["color"] for x in drawn)
        found[index, "count"] = len(drawn) == group["count"]
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """Which pictures to check.

    Attributes:
      predictions: files or folders of predictions, each by itself; the first is the one
        that others are compared with.
      by: the score of which is measured whether it agrees with the check.
      scenes: a split of which the check itself is measured instead.
      difficulty: of those scenes.
      level, resamples, seed: of the bootstrap over prompts.
    """

    predictions: Sequence[str] = ()
    by: str = "alignment"
    scenes: str | None = None
    difficulty: str = "simple"
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedSide:
    """The pictures of one folder of predictions.

    Attributes:
      source: the predictions, as named.
      counts: `{answer: pictures}`.
      shown: the share of "yes" among the decided pictures of a prompt, mean over prompts;
        None if none was decided.
      gain: the same of this side less that of the first one, over the prompts that have
        decided pictures on both; None for the first side and where there are none.
      auc: how often the score puts a picture with "yes" above one with "no", over all
        such pairs; None if there are none, or no scores.
    """

    source: str
    counts: Mapping[str, int]
    shown: Estimate | None
    gain: Estimate | None
    auc: Estimate | None

    def as_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON holds them."""
        estimates = {"shown": self.shown, "gain": self.gain, "auc": self.auc}
        given = {name: as_numbers(x) if x else None for name, x in estimates.items()}
        return {"predictions": self.source, **self.counts, **given}


def write_check(request: CheckRequest, output: str | None = None) -> str:
    """Checks pictures, or the check; writes JSON, if a file is named; returns text.

    Raises:
      ValueError: there is nothing to check, or an image cannot be read.
    """
    if bool(request.predictions) == bool(request.scenes):
        raise ValueError("expected either predictions or --scenes=SPLIT")
    if output:  # before the work
        durable.check_file(output)
    if request.scenes:
        records = Scenes(request.scenes, 64, difficulty=request.difficulty)
        errors = measure_check(tqdm(records, unit="scene", disable=None))
        found: Any = {name: each.as_json() for name, each in errors.items()}
        text = "\n".join(_errors_table(errors))
    else:
        sides = check_sides(request)
        found = [side.as_json() for side in sides]
        text = "\n".join(_sides_table(sides, request.by))
    if output:
        durable.write_text(output, json.dumps(found, indent=1) + "\n")
    return text


def check_sides(request: CheckRequest) -> list[CheckedSide]:
    """Checks the pictures of each folder of predictions; see `write_check`."""
    sides: list[CheckedSide] = []
    first: dict[str, float] | None = None
    names = ("level", "resamples", "seed")
    bootstrap = {name: getattr(request, name) for name in names}
    estimate = functools.partial(estimate_means, **bootstrap)
    for source in request.predictions:
        predicted = [*PredictedImages(source)]
        answers = [_check(each) for each in tqdm(predicted, unit="image", disable=None)]
        shown = _by_prompt(predicted, answers)
        gain = None
        if first is not None and (both := [name for name in first if name in shown]):
            gain = np.array([shown[name] - first[name] for name in both])[:, None]
        sides.append(
            CheckedSide(
                source=source,
                counts={name: answers.count(name) for name in (YES, NO, UNDECIDABLE)},
                shown=estimate(np.array([*shown.values()])[:, None])[0]
                if shown
                else None,
                gain=None if gain is None else estimate(gain)[0],
                auc=_measure_auc(predicted, answers, request),
            )
        )
        first = shown if first is None else first
    return sides


def _check(image: PredictedImage) -> str:
    try:
        pixels = images.read_image(image_places.read(image.image))
    except ValueError as error:
        raise ValueError(f"{image.place}: {error}") from error
    return check_picture(pixels, image.prompt or "").answer


def _by_prompt(
    predicted: Sequence[PredictedImage], answers: Sequence[str]
) -> dict[str, float]:
    """Returns the share of "yes" among the decided pictures of each prompt."""
    decided = [
        ((image.prompt or "").strip(), answer == YES)
        for image, answer in zip(predicted, answers, strict=True)
        if answer != UNDECIDABLE
    ]
    if not decided:
        return {}
    prompts, values = zip(*decided, strict=True)
    means, _ = mean_by_prompt(np.array(values, float)[:, None], prompts)
    return dict(zip(dict.fromkeys(prompts), means[:, 0].tolist(), strict=True))


def _measure_auc(
    predicted: Sequence[PredictedImage], answers: Sequence[str], request: CheckRequest
) -> Estimate | None:
    rows = [
        (image.scores[request.by], answer == YES, (image.prompt or "").strip())
        for image, answer in zip(predicted, answers, strict=True)
        if answer != UNDECIDABLE and request.by in image.scores
    ]
    if len({positive for _, positive, _ in rows}) < 2:
        return None
    values, positive, prompts = (np.array(x) for x in zip(*rows, strict=True))
    _, group = np.unique(prompts, return_inverse=True)
    drawn = resampling.draw(group.max() + 1, request.resamples, request.seed)
    once = np.ones((1, len(values)))
    [value] = weighted_auc(values, positive, once)
    low, high = resampling.interval(
        weighted_auc(values, positive, drawn[:, group]), request.level
    )
    return Estimate(value=float(value), low=low, high=high)


def weighted_auc(
    values: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Returns the area under the ROC curve in each resample.

    Args:
      values: float[N], higher for what should be positive; ties count one half.
      positive: bool[N].
      weights: [R, N], how often each was drawn.

    Returns:
      float64[R], NaN where one of the two kinds was not drawn.
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    sums = [
        np.add.reduceat(weights[:, order] * kind[order], starts, axis=1)
        for kind in (positive, ~positive)
    ]
    yes, no = (np.asarray(each, np.float64) for each in sums)
    below = np.cumsum(no, axis=1) - no / 2
    pairs = yes.sum(1) * no.sum(1)
    won = (yes * below).sum(1)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _errors_table(errors: Mapping[str, CheckErrors]) -> list[str]:
    rows = [["", "decided", "yes", "of them wrong", "no", "of them wrong", "error"]]
    for name, each in errors.items():
        found = each.as_json()
        rows.append(
            [
                name,
                f"{found['decided']:.1%}",
                *(f"{each.yes:,}", f"{found['error_of_yes']:.1%}"),
                *(f"{each.no:,}", f"{found['error_of_no']:.1%}"),
                f"{found['error']:.1%}",
            ]
        )
    return align(rows)


def _sides_table(sides: Sequence[CheckedSide], by: str) -> list[str]:
    head = ["", YES, NO, UNDECIDABLE, "shown, %", "against the first, points"]
    rows = [[*head, f"{by}: AUC"]]
    for side in sides:
        rows.append(
            [
                side.source,
                *(f"{number:,}" for number in side.counts.values()),
                _with_ends(side.shown, 100, ".1f"),
                _with_ends(side.gain, 100, "+.1f"),
                _with_ends(side.auc, 1, ".3f"),
            ]
        )
    return align(rows)


def _with_ends(found: Estimate | None, scale: float, form: str) -> str:
    if found is None:
        return "-"
    value, low, high = (
        format(scale * x, form) for x in (found.value, found.low, found.high)
    )
    return f"{value} ({low} to {high})"
