"""Which record belongs to which split: official names, hashed shares, or folds.

Records come in groups (all images of a prompt, say), and a group is never cut: what
a model has seen of a prompt would help it on the prompt's other images.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

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
    """Returns the group of an image: its prompt's words, or itself where it has none.

    Prompts that differ in case, white space, punctuation between words or Unicode
    normal form are one group.
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
    """Cuts groups into train, dev and test, each by a hash of its own name.

    No group's split depends on the other groups, so records may be added, removed and
    reordered without moving any, and shares hold on average only. The exception: where
    no group at all falls to dev or test, the one that came nearest is taken, until
    added groups fall there. It then goes back to train; no group leaves train.

    Args:
      groups: the name of each record's group.
      seed: names another cut.
      dev_share: of the groups, about; at least one group if it is above 0.
      test_share: the same; not used with folds.
      folds: k above 1 cuts the groups into k parts of about equal number. 0: none.
      fold: with folds, the part that is the test split; dev is cut from the rest.
      option: what stands before the names of these options where users set them, for
        error messages: "--" or "config.input.rated_images.".

    Returns:
      The split of each record, an array of strings.

    Raises:
      ValueError: the numbers make no sense, leave nothing to train on, or a fold has
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
            f"{len(numbers)} groups, of which {len(test)} fall to test and {len(dev)} "
            f"to dev, leave none to train on; lower {option}dev_share={dev_share:g} or "
            f"{option}test_share={test_share:g}, group by something finer, or try "
            f"another {option}seed"
        )
    return np.array(
        ["test" if n in test else "dev" if n in dev else "train" for n in groups]
    )


def check_shares(
    dev_share: float, test_share: float, folds: int, fold: int, option: str
) -> None:
    """Raises ValueError unless these arguments of `cut` make sense."""
    if not (0 <= dev_share < 1 and 0 <= test_share < 1):
        raise ValueError(
            f"{option}dev_share={dev_share} and {option}test_share={test_share} must "
            "lie in [0, 1)"
        )
    if folds and (folds < 2 or not 0 <= fold < folds):
        raise ValueError(
            f"expected {option}folds >= 2 and 0 <= {option}fold < folds, got "
            f"{folds} and {fold}"
        )


def _check_folds(numbers: Iterable[str], seed: int, folds: int, option: str) -> None:
    """Raises ValueError where a fold has no group; names a seed that gives each some."""
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
            f"{len(names)} groups, which fall to folds by a hash of their names; "
            f"choose fewer folds"
            + ("" if better is None else f", or {option}seed={better}")
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
    """Takes splits as they are published; where there is no dev, cuts it from train.

    Args:
      given: the split of each record, one of `SPLITS`.
      groups: the name of each record's group; dev is cut by them.
      seed: as for `cut`.
      dev_share: the share of train's groups to cut for dev.
      option: as for `cut`.
      cut: what to cut by.

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


def _below(numbers: Mapping[str, float], share: float) -> set[str]:
    """Returns the names whose number is below the share, the lowest where none is."""
    if not share or not numbers:
        return set()
    found = {name for name, number in numbers.items() if number < share}
    return found or {min(numbers, key=lambda name: numbers[name])}


def _part(number: float, folds: int) -> int:
    return min(int(number * folds), folds - 1)


def _numbers(seed: int, name: str) -> tuple[float, float]:
    """Returns two independent numbers in [0, 1] that belong to a name."""
    found = digest(seed, name)
    first, second = (int.from_bytes(part) / 2**64 for part in (found[:8], found[8:]))
    return first, second


def digest(seed: int, name: str) -> bytes:
    """Returns the 16 bytes by which a group of this name is placed."""
    text = f"{seed}/{name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
