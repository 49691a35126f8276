"""Composes the complete description of a scene, from which it is drawn and rated."""

from typing import Any

from rahf.datasets.scenes import flaws, grammar, layout
from rahf.datasets.scenes.dice import Dice


def describe(
    dice: Dice,
    *,
    split: str,
    difficulty: str,
    faithful: bool = False,
    flaw_dice: Dice | None = None,
) -> dict[str, Any]:
    """Invents a scene: first its intent and prompt, then its flaws.

    Args:
      dice: the source of random choices; the same dice give the same scene.
      split: "train", "dev" or "test".
      difficulty: one of `grammar.DIFFICULTIES`.
      faithful: whether nothing contradicts the prompt.
      flaw_dice: the source of what comes after the intent and the prompt; None goes on
        with `dice`. Other flaw dice give another picture of the same prompt.

    Returns:
      The dict of `grammar.compose` (the intent), with

        objects: what is drawn and where, see `layout.place`;
        misalignment, implausibility, aesthetics: the flaws, see `flaws`;
        tint: a small RGB shift of the background.

      It can be written as JSON and contains no pixel sizes.
    """
    scene = grammar.compose(dice, split=split, difficulty=difficulty)
    dice = flaw_dice or dice
    if faithful:
        groups, relations, misalignment = scene["groups"], scene["relations"], []
    else:
        groups, relations, misalignment = flaws.misalign(dice, scene, difficulty)
    objects = layout.place(dice, groups, relations, difficulty)
    aesthetics = flaws.spoil(dice, difficulty)
    flaws.crop(dice, objects, aesthetics)
    scene["objects"] = objects
    scene["misalignment"] = misalignment
    scene["implausibility"] = flaws.damage(dice, objects, difficulty)
    scene["aesthetics"] = aesthetics
    scene["tint"] = [dice.integer(25) - 12 for _ in range(3)]
    flaws.show_misalignments(scene)
    return scene
