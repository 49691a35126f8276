"""Which prompts are drawn to learn from, and which are held out."""

import re
from collections.abc import Callable, Iterable
from typing import Protocol

from rahf.applications.prompt_lists import read_prompts

#: Records of a split to look through for each different prompt that is wanted; the
#: second number if the first was too low.
_PATIENCE = (2, 12)


class HasPrompts(Protocol):
    """A generator whose task has prompts."""

    def prompts(self, split: str, count: int) -> list[str]:
        """Returns the prompts of the first records of a split."""
        ...


def read_lists(
    prompts: str, held_out: str, load: Callable[[], HasPrompts]
) -> tuple[list[str], list[str]]:
    """Reads both lists, each prompt once.

    Args:
      prompts: a file (`read_prompts`), or `SPLIT:NUMBER`, "train:400" say.
      held_out: likewise; of a split, prompts to learn from are left out.
      load: loads the generator, where a split is named.

    Returns:
      The prompts to learn from, and those that are held out.

    Raises:
      ValueError: a file cannot be read, a split is unknown or has too few different
        prompts, or a file of held-out prompts has one that is learned from.
    """
    learned = _read("--prompts", prompts, (), load)
    held = _read("--held_out", held_out, learned, load)
    if shared := set(learned) & set(held):
        raise ValueError(
            f"--held_out={held_out} has {len(shared)} prompts of --prompts={prompts}, "
            f"such as {min(shared)!r}: what is judged must not be learned"
        )
    return learned, held


def _read(
    flag: str, asked: str, without: Iterable[str], load: Callable[[], HasPrompts]
) -> list[str]:
    of_split = re.fullmatch(r"(\w+):([1-9]\d*)", asked)
    if of_split is None:
        return _different(read_prompts(asked))
    split, count = of_split[1], int(of_split[2])
    known, generator, found = set(without), load(), []
    for patience in _PATIENCE:
        found = _different(generator.prompts(split, count * patience))
        found = [each for each in found if each not in known]
        if len(found) >= count:
            return found[:count]
    raise ValueError(
        f"{flag}={asked}: {len(found)} different prompts are left in the first "
        f"{count * _PATIENCE[-1]} records of split {split!r}; ask for fewer, or name a "
        "file"
    )


def _different(prompts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(each.strip() for each in prompts))
