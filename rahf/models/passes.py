"""Which targets are predicted in one pass: where the model's two variants differ.

The multi-head variant predicts all targets from the plain prompt at once. The augmented
variant writes the target into the prompt, so each target needs its own pass; targets of
one kind share a head, and so one compiled program.
"""

from collections.abc import Sequence

from rahf.targets import select


def is_augmented(config) -> bool:
    """Returns whether the target is written into the prompt."""
    return config.get("model", {}).get("variant") == "augmented"


def targets_of_prompts(config, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups targets by the prompt that asks for them.

    Args:
      config: the training config.
      names: the names of the targets.
    """
    if is_augmented(config):
        return [(name,) for name in names]
    return [tuple(names)] if names else []


def targets_of_programs(config, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups targets by the compiled program that computes them.

    An augmented example answers one target, so a program for all targets would waste
    work on the others: decoding words costs more than predicting a score.

    Args:
      config: the training config.
      names: the names of the targets.
    """
    if not is_augmented(config):
        return [tuple(names)] if names else []
    rows = select(names)
    kinds = dict.fromkeys(row.kind for row in rows)
    return [tuple(row.name for row in rows if row.kind is kind) for kind in kinds]
