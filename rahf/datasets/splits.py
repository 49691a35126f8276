"""Which record belongs to which split: official names, seeded shares, or folds.

Records come in groups (all images of a prompt, say), and a group is never cut: what
a model has seen of a prompt would help it on the prompt's other images.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from rahf import words

SPLITS = ("train", "dev", "test")
#: What official splits are called, in lower case.
NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
}


def name_group(prompt: str, image: str) -> str:
    """Returns the group of an image: its prompt's words, or itself where it has none."""
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
    """Cuts groups into train, dev and test, by a seeded order of their names.

    The order in which records stand does not matter, and equal names always go
    together.

    Args:
      groups: the name of each record's group.
      seed: names another order.
      dev_share: of the groups, rounded, at least one if it is above 0.
      test_share: the same; not used with folds.
      folds: k above 1 cuts the groups into k parts of nearly equal number. 0: none.
      fold: with folds, the part that is the test split; dev is cut from the rest.
      option: what stands before the names of these options where users set them, for
        error messages: "--" or "config.input.rated_images.".

    Returns:
      The split of each record, an array of strings.

    Raises:
      ValueError: the numbers make no sense, or leave nothing to train on.
    """
    names = sorted(set(groups), key=lambda name: _digest(seed, name))
    if not (0 <= dev_share < 1 and 0 <= test_share < 1):
        raise ValueError(
            f"{option}dev_share={dev_share} and {option}test_share={test_share} must "
            "lie in [0, 1)"
        )
    if folds:
        if folds < 2 or not 0 <= fold < folds:
            raise ValueError(
                f"expected {option}folds >= 2 and 0 <= {option}fold < folds, got "
                f"{folds} and {fold}"
            )
        if len(names) < folds:
            raise ValueError(
                f"{option}folds={folds}, but there are only {len(names)} groups"
            )
        test = names[fold::folds]
    else:
        test = names[: _count(test_share, len(names))]
    rest = sorted(set(names).difference(test), key=lambda name: _digest(seed, name))
    dev = rest[: _count(dev_share, len(names))]
    if len(dev) >= len(rest):
        raise ValueError(
            f"{len(names)} groups, of which {len(test)} are for test and {len(dev)} "
            f"for dev, leave none to train on; lower {option}dev_share={dev_share} or "
            f"{option}test_share={test_share}, or group by something finer"
        )
    places = dict.fromkeys(names, "train")
    places |= dict.fromkeys(dev, "dev") | dict.fromkeys(test, "test")
    return np.array([places[name] for name in groups])


def keep_official(
    given: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int = 0,
    dev_share: float = 0.1,
    option: str = "",
) -> np.ndarray:
    """Takes splits as they are published; where there is no dev, cuts it from train.

    Args:
      given: the split of each record, one of `SPLITS`.
      groups: the name of each record's group; dev is cut by them.
      seed: as for `cut`.
      dev_share: the share of train's groups to cut for dev.
      option: as for `cut`.

    Returns:
      The split of each record, an array of strings.
    """
    places = np.array(given)
    train = np.flatnonzero(places == "train").tolist()
    if "dev" not in given and len(train):
        places[train] = cut(
            [groups[i] for i in train],
            seed=seed,
            dev_share=dev_share,
            test_share=0,
            option=option,
        )
    return places


def straddling(groups: Sequence[str], places: Sequence[str]) -> list[str]:
    """Returns the groups that lie on more than one side, in order."""
    sides: dict[str, set[str]] = {}
    for group, place in zip(groups, places, strict=True):
        sides.setdefault(group, set()).add(str(place))
    return [group for group, found in sides.items() if len(found) > 1]


def _count(share: float, groups: int) -> int:
    return max(1, round(share * groups)) if share else 0


def _digest(seed: int, name: str) -> bytes:
    text = f"{seed}/{name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
