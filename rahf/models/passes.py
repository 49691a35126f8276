"""Which targets are asked in one pass: what the two variants of the model differ in.

The multi-head variant answers every target about the plain prompt at once. The augmented
variant writes what is asked into the prompt, so each target takes a pass of its own;
targets of one kind share a head, and so one compiled program.
"""

from collections.abc import Sequence

from rahf.targets import select


def is_augmented(config) -> bool:
    """Whether what is asked is written into the prompt."""
    return config.get("model", {}).get("variant") == "augmented"


def targets_of_prompts(config, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Cuts targets into those that one prompt asks for.

    Args:
      config: the training config.
      names: of targets.
    """
    if is_augmented(config):
        return [(name,) for name in names]
    return [tuple(names)] if names else []


def targets_of_programs(config, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Cuts targets into those that one compiled program computes.

    An augmented example answers one target, so a program for all would compute the
    others for nothing: decoding words for an example of a score costs more than the
    score.

    Args:
      config: the training config.
      names: of targets.
    """
    if not is_augmented(config):
        return [tuple(names)] if names else []
    rows = select(names)
    kinds = dict.fromkeys(row.kind for row in rows)
    return [tuple(row.name for row in rows if row.kind is kind) for kind in kinds]
