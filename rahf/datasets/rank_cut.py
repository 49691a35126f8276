"""The older way to split groups: `rated_images.cut` is "rank".

Groups are sorted by hash, and shares and folds are counted off in that order, so one
added or removed row moves others. Runs that were trained this way are evaluated on
the same splits; new runs use `rahf.datasets.splits`.
"""

from collections.abc import Sequence

import numpy as np

from rahf import words
from rahf.datasets.splits import check_shares, digest


def name_group(prompt: str, image: str) -> str:
    """Returns the group of an image, as `splits.name_group` formerly did."""
    return " ".join(words.split(prompt.casefold())) or image


def cut(
    groups: Sequence[str],
    *,
    seed: int = 0,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    folds: int = 0,
    fold: int = 0,
    option: str = "",
) -> np.ndarray:
    """Splits groups into train, dev and test, as `splits.cut` formerly did.

    Args, Returns and Raises are those of `splits.cut`; shares are exact.
    """
    check_shares(dev_share, test_share, folds, fold, option)
    names = sorted(set(groups), key=lambda name: digest(seed, name))
    if folds:
        if len(names) < folds:
            raise ValueError(
                f"{option}folds={folds}, but there are only {len(names)} groups"
            )
        test = names[fold::folds]
    else:
        test = names[: _count(test_share, len(names))]
    left = set(names).difference(test)
    rest = [name for name in names if name in left]
    dev = rest[: _count(dev_share, len(names))]
    if len(dev) >= len(rest):
        raise ValueError(
            f"none of the {len(names)} groups is left to train on: {len(test)} are for "
            f"test and {len(dev)} for dev; lower {option}dev_share={dev_share:g} "
            f"or {option}test_share={test_share:g}, or use smaller groups"
        )
    split_of = dict.fromkeys(names, "train")
    split_of |= dict.fromkeys(dev, "dev") | dict.fromkeys(test, "test")
    return np.array([split_of[name] for name in groups])


def _count(share: float, groups: int) -> int:
    return max(1, round(share * groups)) if share else 0
