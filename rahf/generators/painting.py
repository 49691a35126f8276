"""What every generator checks of a request, and how it pastes what it painted."""

from collections.abc import Sequence

import numpy as np

#: Seeds are below this, so that an int32 holds them.
SEEDS = 2**31


def check_requests(prompts: Sequence[str], seeds: Sequence[int]) -> None:
    """Raises ValueError unless there is a seed in [0, 2**31) for each prompt."""
    if len(prompts) != len(seeds):
        raise ValueError(
            f"{len(prompts)} prompts and {len(seeds)} seeds: expected as many"
        )
    if seeds and not 0 <= min(seeds) <= max(seeds) < SEEDS:
        raise ValueError(f"seeds={list(seeds)[:8]}...: expected 0 to {SEEDS - 1}")


def check_images_and_masks(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    prompts: Sequence[str],
    size: tuple[int, int],
) -> None:
    """Raises ValueError unless a generator can repaint these.

    Args:
      images: uint8[H, W, 3] expected.
      masks: float[H, W] in [0, 1] expected, one an image.
      prompts: one an image.
      size: (H, W).
    """
    if not len(images) == len(masks) == len(prompts):
        raise ValueError(
            f"{len(images)} images, {len(masks)} masks and {len(prompts)} prompts: "
            "expected as many of each"
        )
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        check_image(image, size, index)
        if mask.shape != size or not (0 <= mask.min() and mask.max() <= 1):
            raise ValueError(
                f"masks[{index}]: expected {list(size)} values in [0, 1], not "
                f"{list(mask.shape)} in [{mask.min()}, {mask.max()}]"
            )


def check_image(image: np.ndarray, size: tuple[int, int], index: int) -> None:
    """Raises ValueError, with the image's index, unless it is uint8[H, W, 3] of a size."""
    if image.shape != (*size, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"images[{index}] is {image.dtype}{list(image.shape)}; expected "
            f"uint8{[*size, 3]}"
        )


def paste(image: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mixes new pixels into an image: uint8[H, W, 3], twice, and float[H, W] in [0, 1].

    Where the mask is 0, pixels are those of the image, bit for bit.
    """
    share = mask.astype(np.float32)[..., None]
    mixed = image + share * (new.astype(np.float32) - image)
    return np.where(share == 0, image, np.rint(mixed).astype(np.uint8))
