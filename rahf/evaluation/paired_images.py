"""Predictions of images before and after, paired: the same prompt and the same seed."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from rahf import images
from rahf.applications.choosers import find_choosers
from rahf.applications.prediction_lines import same_checkpoint
from rahf.evaluation.image_statistics import (
    MovedStatistic,
    PromptStatistics,
    Tokenize,
    compare_statistics,
    measure_images,
)
from rahf.evaluation.predicted_images import PredictedImage, PredictedImages
from rahf.inference import image_places

#: The most ids that a message names.
_SHOWN = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedImages:
    """Images of two sides, of which one place is a pair.

    Attributes:
      before, after: P predictions each.
      prompts: P prompts, without spaces at their ends.
      unpaired: how many images are on one side only: (before, after).
      notes: what could not be checked, for people.
    """

    before: Sequence[PredictedImage]
    after: Sequence[PredictedImage]
    prompts: Sequence[str]
    unpaired: tuple[int, int]
    notes: tuple[str, ...] = ()

    def scores(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns float64[P] of each side.

        Raises:
          ValueError: an image has no such score.
        """
        for image in (*self.before, *self.after):
            if name not in image.scores:
                raise ValueError(
                    f"{image.place}, id {image.id!r}: no score {name!r}; it has "
                    f"{', '.join(image.scores) or 'none'}"
                )
        one, other = (
            np.array([image.scores[name] for image in side], np.float64)
            for side in (self.before, self.after)
        )
        return one, other


def pair_images(
    before: PredictedImages,
    after: PredictedImages,
    *,
    on_error: str = "fail",
    same_judge: bool = False,
) -> PairedImages:
    """Pairs images by id, such as 000012-3 of prompt 12 and seed 3.

    Args:
      before, after: the judge's predictions of the two sides.
      on_error: "fail" to raise where an image is on one side only, or has another prompt
        on the other; "skip" to leave it out and count it in `unpaired`.
      same_judge: whether the judge may have chosen or mended the images itself.

    Raises:
      ValueError: nothing pairs, the sides were judged by two models, or by one that had
        a hand in the images.
    """
    if not same_checkpoint(before.made_by, after.made_by):
        raise ValueError(
            f"{before.source} was judged by {before.made_by.get('checkpoint')!r}, "
            f"{after.source} by {after.made_by.get('checkpoint')!r}"
            + _other_parameters(before, after)
            + "; scores of two models cannot be compared: predict both with one"
        )
    notes = () if same_judge else _check_judge(before, after)
    theirs = {image.id: image for image in after}
    pairs = [(image, theirs[image.id]) for image in before if image.id in theirs]
    _check_prompts(pairs)
    other = [pair for pair in pairs if not _same_prompt(*pair)]
    if other and (on_error == "fail" or len(other) == len(pairs)):
        one, two = other[0]
        raise ValueError(
            f"id {one.id!r} has prompt {one.prompt!r} in {one.place}, and "
            f"{two.prompt!r} in {two.place}; {len(other):,} of {len(pairs):,} pairs "
            "differ so: expected images of the same prompts and seeds"
        )
    pairs = [pair for pair in pairs if _same_prompt(*pair)]
    lacking = len(before) - len(pairs), len(after) - len(pairs)
    if not pairs or (on_error == "fail" and any(lacking)):
        raise ValueError(_unpaired(before, after, lacking))
    return PairedImages(
        before=[one for one, _ in pairs],
        after=[two for _, two in pairs],
        prompts=[(one.prompt or "").strip() for one, _ in pairs],
        unpaired=lacking,
        notes=notes,
    )


class SideStatistics:
    """Measures the images of paired sides; a side is read once."""

    def __init__(self, tokenize: Tokenize | None = None):
        self._tokenize = tokenize
        self._known: dict[tuple[str, ...], PromptStatistics] = {}

    def compare(self, pairs: PairedImages, **bootstrap) -> dict[str, MovedStatistic]:
        """Returns how the statistics moved; `bootstrap` as `compare_statistics` has it.

        Raises:
          ValueError: a prediction names no image, or one that cannot be read.
        """
        sides = (self._measure(side, pairs) for side in (pairs.before, pairs.after))
        return compare_statistics(*sides, **bootstrap)

    def _measure(
        self, side: Sequence[PredictedImage], pairs: PairedImages
    ) -> PromptStatistics:
        key = tuple(image.image for image in side)
        if key not in self._known:
            found = measure_images(_by_prompt(side, pairs.prompts), self._tokenize)
            self._known[key] = found
        return self._known[key]


def _by_prompt(
    side: Sequence[PredictedImage], prompts: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields prompts and pixels, the images of a prompt one after another."""
    first = {prompt: number for number, prompt in reversed([*enumerate(prompts)])}
    for number in sorted(range(len(side)), key=lambda n: first[prompts[n]]):
        image = side[number]
        try:
            pixels = images.read_image(image_places.read(image.image))
        except ValueError as error:
            raise ValueError(
                f"{image.place}: {error}; --no_statistics compares scores alone"
            ) from error
        yield prompts[number], pixels


def _other_parameters(before: PredictedImages, after: PredictedImages) -> str:
    names = {side.made_by.get("checkpoint") for side in (before, after)}
    return " with other parameters" if len(names) == 1 else ""


def _check_judge(before: PredictedImages, after: PredictedImages) -> tuple[str, ...]:
    """Raises ValueError if the judge had a hand in the images; returns what is unknown."""
    notes = []
    for side in (before, after):
        for chooser in find_choosers(image.image for image in side if image.image):
            is_judge = chooser.is_model(side.made_by)
            if is_judge:
                raise ValueError(
                    f"{side.source} was judged by {side.made_by.get('checkpoint')!r}, "
                    f"which had a hand in these images itself ({chooser.place}): a "
                    "score that was climbed says nothing of what was gained. Judge with "
                    "a model of another training (configs/scenes_judge.py), or see the "
                    "climb with --same_judge"
                )
            if is_judge is None:
                notes.append(
                    f"{chooser.place} names a model that had a hand in the images; "
                    "whether it is the judge cannot be told"
                )
    return tuple(notes)


def _check_prompts(pairs: Sequence[tuple[PredictedImage, PredictedImage]]) -> None:
    for image in (image for pair in pairs for image in pair):
        if not (image.prompt or "").strip():
            raise ValueError(
                f"{image.place}, id {image.id!r}: no prompt, by which pairs are grouped"
            )


def _same_prompt(one: PredictedImage, other: PredictedImage) -> bool:
    return (one.prompt or "").strip() == (other.prompt or "").strip()


def _unpaired(
    before: PredictedImages, after: PredictedImages, lacking: tuple[int, int]
) -> str:
    known = [{image.id for image in side} for side in (before, after)]
    alone = []
    for side, number, others in zip(
        (before, after), lacking, reversed(known), strict=True
    ):
        shown = [image.id for image in side if image.id not in others][:_SHOWN]
        named = f" ({', '.join(shown)}{', ...' * (number > len(shown))})"
        errors = f", {side.errors:,} could not be read" * bool(side.errors)
        alone.append(f"{number:,} of {side.source}{named * bool(number)}{errors}")
    return (
        f"images without a partner: {' and '.join(alone)}; expected images of the same "
        "prompts and seeds, with the same ids; --on_error=skip compares the others"
    )
