"""Assigns records to splits: by official names, hashed shares, or folds.

Records come in groups (all images of a prompt, say), and a group is never divided:
what a model has seen of a prompt would help it on the prompt's other images.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from rahf import words

SPLITS = ("train", "dev", "test")
#: Names of official splits in lower case -> split.
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
    """Returns the group of an image: the words of its prompt, or else the image.

    Prompts that differ only in case, white space, punctuation between words or
    Unicode normal form are one group.
    """
    text = unicodedata.normalize("NFKC", prompt).casefold()
    return " ".join(words.split(" ".join(text.split()))) or image


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
    """Splits groups into train, dev and test, each by a hash of its own name.

    No group's split depends on the other groups, so records may be added, removed and
    reordered without moving any, and shares hold only on average. The exception: if no
    group falls into dev or test, the nearest one is taken, until an added group falls
    there. It then goes back to train; no group leaves train.

    Args:
      groups: the name of each record's group.
      seed: the seed of the hash; another seed gives other splits.
      dev_share: approximate share of the groups; at least one group if above 0.
      test_share: the same for test; not used with folds.
      folds: the number of folds, above 1 and about equal in size; 0 for none.
      fold: with folds, the one that is the test split; dev is taken from the rest.
      option: prefix of these options' names in error messages, as users set them:
        "--" or "config.input.rated_images.".

    Returns:
      The split of each record, an array of strings.

    Raises:
      ValueError: the numbers are invalid or leave nothing to train on, or a fold has
        no group.
    """
    check_shares(dev_share, test_share, folds, fold, option)
    numbers = {name: _numbers(seed, name) for name in set(groups)}
    if folds:
        test = {n for n, (first, _) in numbers.items() if _part(first, folds) == fold}
        _check_folds(numbers, seed, folds, option)
        test_share = 1 / folds
    else:
        test = _below({n: first for n, (first, _) in numbers.items()}, test_share)
    rest = {n: second for n, (_, second) in numbers.items() if n not in test}
    dev = _below(rest, dev_share / (1 - test_share))
    if len(dev) >= len(rest):
        raise ValueError(
            f"none of the {len(numbers)} groups is left to train on: {len(test)} are "
            f"in test and {len(dev)} in dev; lower {option}dev_share={dev_share:g} or "
            f"{option}test_share={test_share:g}, use smaller groups, or try another "
            f"{option}seed"
        )
    return np.array(
        ["test" if n in test else "dev" if n in dev else "train" for n in groups]
    )


def check_shares(
    dev_share: float, test_share: float, folds: int, fold: int, option: str
) -> None:
    """Raises ValueError unless these arguments of `cut` are valid."""
    if not (0 <= dev_share < 1 and 0 <= test_share < 1):
        raise ValueError(
            f"{option}dev_share={dev_share} and {option}test_share={test_share} must "
            "be in [0, 1)"
        )
    if folds and (folds < 2 or not 0 <= fold < folds):
        raise ValueError(
            f"expected {option}folds >= 2 and 0 <= {option}fold < folds, got "
            f"{folds} and {fold}"
        )


def _check_folds(numbers: Iterable[str], seed: int, folds: int, option: str) -> None:
    """Raises ValueError if a fold has no group; suggests a seed without empty folds."""
    names = list(numbers)
    if len(names) < folds:
        raise ValueError(
            f"{option}folds={folds}, but there are only {len(names)} groups"
        )

    def empty(seed: int) -> set[int]:
        parts = {_part(_numbers(seed, name)[0], folds) for name in names}
        return set(range(folds)) - parts

    if lacking := empty(seed):
        better = next((s for s in range(1000) if not empty(s)), None)
        raise ValueError(
            f"fold {min(lacking)} of {option}folds={folds} gets none of the "
            f"{len(names)} groups, which are assigned by a hash of their names; choose "
            "fewer folds" + ("" if better is None else f", or {option}seed={better}")
        )


def keep_official(
    given: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int = 0,
    dev_share: float = 0.1,
    option: str = "",
    cut: Callable[..., np.ndarray] = cut,
) -> np.ndarray:
    """Keeps official splits; if there is no dev, takes it from train.

    Args:
      given: the official split of each record, one of `SPLITS`.
      groups: the name of each record's group.
      seed: as for `cut`.
      dev_share: the share of train's groups to take for dev.
      option: as for `cut`.
      cut: the function that splits.

    Returns:
      The split of each record, an array of strings.
    """
    assigned = np.array(given)
    train = np.flatnonzero(assigned == "train").tolist()
    if "dev" not in given and len(train):
        assigned[train] = cut(
            [groups[i] for i in train],
            seed=seed,
            dev_share=dev_share,
            test_share=0,
            option=option,
        )
    return assigned


def straddling(groups: Sequence[str], assigned: Sequence[str]) -> list[str]:
    """Returns the groups that are in more than one split, in order."""
    splits_of: dict[str, set[str]] = {}
    for group, split in zip(groups, assigned, strict=True):
        splits_of.setdefault(group, set()).add(str(split))
    return [group for group, found in splits_of.items() if len(found) > 1]


def _below(numbers: Mapping[str, float], share: float) -> set[str]:
    """Returns the names whose number is below the share, or else the lowest."""
    if not share or not numbers:
        return set()
    found = {name for name, number in numbers.items() if number < share}
    return found or {min(numbers, key=lambda name: numbers[name])}


def _part(number: float, folds: int) -> int:
    return min(int(number * folds), folds - 1)


def _numbers(seed: int, name: str) -> tuple[float, float]:
    """Returns two independent numbers in [0, 1], derived from a name."""
    found = digest(seed, name)
    first, second = (int.from_bytes(part) / 2**64 for part in (found[:8], found[8:]))
    return first, second


def digest(seed: int, name: str) -> bytes:
    """Returns the 16 bytes that decide the split of a group."""
    text = f"{seed}/{name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
