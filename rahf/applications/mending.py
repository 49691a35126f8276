"""Mends images: heatmap -> mask -> inpaint several times -> keep the best, if better.

Section 5 of the paper (inpainting), repeated as in "Perceptual Artifacts Localization for
Inpainting" (Zhang et al., 2022). It takes any predictor and any generator.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from rahf import images as images_lib
from rahf.applications.generating import Generator, GeneratorError, check_images
from rahf.applications.masks import MaskOptions, describe_mask, make_mask

#: Seeds of the tries of an image follow each other; those of two images may not meet.
MOST_TRIES = 1000


class PredictedFeedback(Protocol):
    """What is predicted of an image; `rahf.inference.predictor.Prediction` has it.

    Attributes:
      scores: by target, in [0, 1], higher is better.
      heatmaps: by target, float32[S, S] in [0, 1], higher is worse.
    """

    @property
    def scores(self) -> Mapping[str, float]: ...

    @property
    def heatmaps(self) -> Mapping[str, np.ndarray]: ...


Predict = Callable[[Sequence[np.ndarray], Sequence[str]], Sequence[PredictedFeedback]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MendOptions:
    """How to mend.

    Attributes:
      heatmaps: what to repaint: the union of these.
      mask: how masks are made of them.
      by: the score that a try must raise.
      margin: by how much at least; a predictor's differences below its own error mean
        nothing.
      tries: how often each mask is repainted.
      rounds: how often all of it is repeated; an image that no try improved stays as it
        is in later rounds.
    """

    heatmaps: Sequence[str] = ("implausibility",)
    mask: MaskOptions = dataclasses.field(
        default_factory=lambda: MaskOptions(feather=0.5)
    )
    by: str = "plausibility"
    margin: float = 0.0
    tries: int = 4
    rounds: int = 3

    def __post_init__(self):
        if not self.heatmaps:
            raise ValueError("heatmaps=() names nothing to repaint")
        if not 1 <= self.tries * self.rounds <= MOST_TRIES or self.rounds < 1:
            raise ValueError(
                f"tries={self.tries} and rounds={self.rounds}: expected at least 1, and "
                f"at most {MOST_TRIES} in all"
            )
        if not self.margin >= 0:
            raise ValueError(f"margin={self.margin}: expected at least 0")


@dataclasses.dataclass(frozen=True)
class MendedImage:
    """An image after mending.

    Attributes:
      pixels: uint8[H, W, 3]; those that no kept mask covers are the original ones.
      repainted: uint8[H, W], the union of the masks of the kept tries, 0 = untouched.
      scores: the score `MendOptions.by`, first of the original, then after each kept
        try: it only rises.
      areas: the masked share of the image, likewise.
      why: what ended it: "clean" (nothing above the threshold), "no better" (no try
        of a round was), "whole" (the mask covers everything, which leaves nothing to
        continue), or "rounds" (all are done).
    """

    pixels: np.ndarray
    repainted: np.ndarray
    scores: tuple[float, ...]
    areas: tuple[float, ...]
    why: str


def mend(
    images: Sequence[np.ndarray],
    prompts: Sequence[str],
    seeds: Sequence[int],
    predict: Predict,
    generator: Generator,
    options: MendOptions,
) -> list[MendedImage]:
    """Repaints what is marked as broken, where that raises the score.

    Args:
      images: uint8[H, W, 3], of the generator's size.
      prompts: one an image.
      seeds: one an image; try t of round r has the seed
        `(seed * MOST_TRIES + r * tries + t) % 2**31`.
      predict: images, prompts -> their feedback.
      generator: what repaints.
      options: how.

    Raises:
      ValueError: the numbers differ, or the feedback lacks a heatmap or the score.
      GeneratorError: the generator returned something else, or touched pixels outside
        a mask.
    """
    if not len(images) == len(prompts) == len(seeds):
        raise ValueError(
            f"{len(images)} images, {len(prompts)} prompts and {len(seeds)} seeds: "
            "expected as many of each"
        )
    work = [
        _Work(image, prompt, seed, feedback, options)
        for image, prompt, seed, feedback in zip(
            images, prompts, seeds, predict(images, prompts), strict=True
        )
    ]
    for number in range(options.rounds):
        going = [each for each in work if not each.why]
        if not going:
            break
        tries = [(each, t) for each in going for t in range(options.tries)]
        painted = generator.inpaint(
            [each.pixels for each, _ in tries],
            [each.mask.astype(np.float32) / 255 for each, _ in tries],
            [each.prompt for each, _ in tries],
            [each.seed_of(number * options.tries + t) for each, t in tries],
        )
        check_images(painted, len(tries), generator.size)
        for (each, _), new in zip(tries, painted, strict=True):
            each.check_outside(new)
        found = predict(painted, [each.prompt for each, _ in tries])
        for index, each in enumerate(going):
            own = slice(index * options.tries, (index + 1) * options.tries)
            each.keep_best(painted[own], found[own])
    return [each.finished() for each in work]


class _Work:
    """One image while it is mended."""

    def __init__(self, pixels, prompt, seed, feedback, options: MendOptions):
        self.pixels, self.prompt, self.why = pixels, prompt, ""
        self._seed, self._options = seed, options
        self._repainted = np.zeros(pixels.shape[:2], np.uint8)
        self._scores: list[float] = []
        self._areas: list[float] = []
        self._take(feedback)

    def seed_of(self, number: int) -> int:
        """Returns the seed of a try."""
        return (self._seed * MOST_TRIES + number) % 2**31

    def _take(self, feedback: PredictedFeedback) -> None:
        """Makes the next mask from the feedback on the pixels as they are."""
        options, size = self._options, self.pixels.shape[:2]
        maps = [_get(feedback.heatmaps, name, "heatmap") for name in options.heatmaps]
        self.mask = make_mask([_at_size(each, size) for each in maps], options.mask)
        described = describe_mask(self.mask)
        self._scores.append(float(_get(feedback.scores, options.by, "score")))
        self._areas.append(described["area"])
        self.why = {"empty": "clean", "full": "whole"}.get(described["flag"], "")

    def check_outside(self, new: np.ndarray) -> None:
        """Raises GeneratorError if pixels outside the mask changed."""
        changed = (new != self.pixels).any(axis=-1) & (self.mask == 0)
        if changed.any():
            raise GeneratorError(
                f"the generator changed {changed.sum()} pixels outside the mask"
            )

    def keep_best(
        self, painted: Sequence[np.ndarray], found: Sequence[PredictedFeedback]
    ):
        """Takes the best try if it is better than what there is."""
        options = self._options
        values = [float(_get(each.scores, options.by, "score")) for each in found]
        best = int(np.argmax(values))
        if not values[best] > self._scores[-1] + options.margin:
            self.why = "no better"
            return
        self.pixels = painted[best]
        self._repainted = np.maximum(self._repainted, self.mask)
        self._take(found[best])

    def finished(self) -> MendedImage:
        """Returns the result."""
        return MendedImage(
            self.pixels,
            self._repainted,
            tuple(self._scores),
            tuple(self._areas),
            self.why or "rounds",
        )


def _get(values: Mapping, name: str, kind: str):
    if name not in values:
        raise ValueError(
            f"the predictor gives no {kind} {name!r}; it gives {', '.join(values)}"
        )
    return values[name]


def _at_size(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if heatmap.shape == size:
        return heatmap
    return images_lib.resize(np.asarray(heatmap, np.float32), size)
