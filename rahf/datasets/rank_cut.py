"""The cut of runs from before groups were hashed: `rated_images.cut` is "rank".

Groups stand in an order by hash, and shares and folds are counted off in it, so a row
more or less moves others. A workdir of such a run is evaluated on the splits that it
was trained with; new runs take `rahf.datasets.splits`.
"""

from collections.abc import Sequence

import numpy as np

from rahf import words
from rahf.datasets.splits import check_shares, digest


def name_group(prompt: str, image: str) -> str:
    """Returns the group of an image, as `rahf.datasets.splits.name_group` once did."""
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
    """Cuts groups into train, dev and test, as `rahf.datasets.splits.cut` once did.

    Args, Returns and Raises are those of that function; shares are exact.
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
            f"{len(names)} groups, of which {len(test)} are for test and {len(dev)} "
            f"for dev, leave none to train on; lower {option}dev_share={dev_share:g} "
            f"or {option}test_share={test_share:g}, or group by something finer"
        )
    places = dict.fromkeys(names, "train")
    places |= dict.fromkeys(dev, "dev") | dict.fromkeys(test, "test")
    return np.array([places[name] for name in groups])


def _count(share: float, groups: int) -> int:
    return max(1, round(share * groups)) if share else 0
