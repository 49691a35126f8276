"""Statistics of images that no score sees, so that a score that was climbed shows.

A generator that is rewarded finds what the reward likes: images all alike, plain or dark.
None of these numbers is good or bad in itself; what matters is whether they move.

dark_share       share of pixels with a brightness below 0.25
edge_density     share of pixels at which brightness changes by 0.1 or more to a neighbour
colour_entropy   entropy of an image's colours in 8 x 8 x 8 bins, in bits, 0 to 9
token_entropy    entropy of an image's tokens, in bits, by the generator's tokenizer
diversity        root mean square difference of the pixels of two images of one prompt,
                 mean over its pairs; only of prompts with several images

Brightness is luma (BT.601) and pixels are in [0, 1]. Each is a mean over the images of a
prompt, then over prompts.

Legend: H height, W width, K images of a prompt, N prompts,
P numbers of an image.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rahf import images as images_lib
from rahf.evaluation.comparison import Estimate
from rahf.evaluation.side_by_side import as_numbers, estimate_means

DARK = 0.25
EDGE = 0.1
#: Bins of a colour channel.
BINS = 8
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

#: Images, uint8[H, W, 3] -> the numbers of the tokens of each, int[...].
Tokenize = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def describe_image(image: np.ndarray) -> dict[str, float]:
    """Returns the statistics of one uint8[H, W, 3] image, see the module."""
    luma = image.astype(np.float32) @ _LUMA / 255
    edges = np.zeros(luma.shape, bool)
    edges[:, :-1] |= np.abs(np.diff(luma, axis=1)) >= EDGE
    edges[:-1] |= np.abs(np.diff(luma, axis=0)) >= EDGE
    red, green, blue = np.moveaxis(image.astype(np.int64) * BINS // 256, -1, 0)
    return {
        "dark_share": float((luma < DARK).mean()),
        "edge_density": float(edges.mean()),
        "colour_entropy": entropy((red * BINS + green) * BINS + blue),
    }


def entropy(numbers: np.ndarray) -> float:
    """Returns the entropy of the values of an int array, in bits."""
    _, counts = np.unique(numbers, return_counts=True)
    shares = counts / counts.sum()
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def diversity(images: Sequence[np.ndarray]) -> float:
    """Returns the mean over pairs of the root mean square difference of their pixels.

    Args:
      images: at least two uint8[H, W, 3]; those of another size are resized to the first.

    Raises:
      ValueError: there are fewer than two.
    """
    if len(images) < 2:
        raise ValueError(f"expected at least two images of a prompt, got {len(images)}")
    size = images[0].shape[:2]
    same = [images_lib.resize(image, size) for image in images]
    flat = np.stack(same).reshape(len(same), -1).astype(np.float32) / 255  # [K, P]
    apart = [
        np.sqrt(np.mean((one - other) ** 2))
        for number, one in enumerate(flat)
        for other in flat[:number]
    ]
    return float(np.mean(apart))


@dataclasses.dataclass(frozen=True)
class PromptStatistics:
    """The statistics of each prompt.

    Attributes:
      prompts: N prompts.
      values: `{statistic: float64[N]}`, NaN where a prompt has too few images.
    """

    prompts: tuple[str, ...]
    values: Mapping[str, np.ndarray]


def measure_images(
    pairs: Iterable[tuple[str, np.ndarray]], tokenize: Tokenize | None = None
) -> PromptStatistics:
    """Measures images by prompt.

    Args:
      pairs: (prompt, uint8[H, W, 3]); the images of a prompt one after another, so that
        no more than those are in memory.
      tokenize: the generator's tokenizer, if there is one.

    Raises:
      ValueError: the images of a prompt are not together, or there are none.
    """
    rows: dict[str, dict[str, float]] = {}
    current, held = None, []

    def finish():
        if current is not None:
            rows[current] = _of_prompt(held, tokenize)

    for prompt, image in pairs:
        if prompt != current:
            finish()
            if prompt in rows:
                raise ValueError(f"the images of prompt {prompt!r} are not together")
            current, held = prompt, []
        held.append(image)
    finish()
    if not rows:
        raise ValueError("expected at least one image")
    names = dict.fromkeys(name for row in rows.values() for name in row)
    values = {
        name: np.array([row.get(name, np.nan) for row in rows.values()])
        for name in names
    }
    return PromptStatistics(tuple(rows), values)


def _of_prompt(
    images: Sequence[np.ndarray], tokenize: Tokenize | None
) -> dict[str, float]:
    each = [describe_image(image) for image in images]
    found = {name: float(np.mean([row[name] for row in each])) for name in each[0]}
    if tokenize is not None:
        found["token_entropy"] = float(np.mean([*map(entropy, tokenize(images))]))
    if len(images) > 1:
        found["diversity"] = diversity(images)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovedStatistic:
    """A statistic before and after.

    Attributes:
      before, after: its means over the prompts that both sides have.
      difference: the mean of after - before, with the interval of the paired prompts.
      prompts: how many have it on both sides.
    """

    before: Estimate
    after: Estimate
    difference: Estimate
    prompts: int

    def as_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON holds them."""
        names = ("before", "after", "difference")
        numbers = {name: as_numbers(getattr(self, name)) for name in names}
        return {**numbers, "prompts": self.prompts}


def compare_statistics(
    before: PromptStatistics,
    after: PromptStatistics,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, MovedStatistic]:
    """Compares the prompts that both sides have.

    Args:
      before, after: from `measure_images`.
      level, resamples, seed: of the bootstrap over prompts.

    Returns:
      By name, in the order of `before`; those that a side lacks are left out.

    Raises:
      ValueError: the sides share no prompt.
    """
    places = {prompt: number for number, prompt in enumerate(after.prompts)}
    both = [n for n, prompt in enumerate(before.prompts) if prompt in places]
    there = [places[before.prompts[n]] for n in both]
    if not both:
        raise ValueError("the images before and after share no prompt")
    found = {}
    for name in filter(after.values.__contains__, before.values):
        one, other = before.values[name][both], after.values[name][there]
        rows = np.column_stack([one, other, other - one])
        rows = rows[np.isfinite(rows).all(1)]
        if len(rows):
            options = {"level": level, "resamples": resamples, "seed": seed}
            start, end, moved = estimate_means(rows, **options)
            found[name] = MovedStatistic(
                before=start, after=end, difference=moved, prompts=len(rows)
            )
    return found
