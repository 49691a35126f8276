"""`ScenePairs`: two pictures of one prompt, and which of them simulated raters prefer."""

from collections.abc import Mapping, Sequence
from typing import Any

from rahf.datasets.scenes import description, drawing, raters
from rahf.datasets.scenes.dataset import Scenes
from rahf.datasets.scenes.dice import Dice

#: Split -> default number of pairs.
PAIRS = {"train": 20_000, "dev": 500, "test": 1_000}
#: Whose the choices are: the raters', or these with the images changed about by a coin,
#: which say nothing.
CHOICES = ("raters", "random")


class ScenePairs(Sequence[dict[str, Any]]):
    """Pairs of pictures of one intent, each drawn with flaws of its own.

    Prompts and flaws come from the distribution of `Scenes`, though no picture is one of
    its. Records are made on demand, with the same bytes on every machine. A record is
    one of `rahf.input.pairs`: `uid`, `image` uint8[H, W, 3], `prompt`, `other` with the
    same three, and for each score `<score>_preference`, the share of the raters' votes
    that the first image got. Those who find both alike give half a vote to each.

    Args:
      split: "train", "dev" or "test"; splits share no prompt's dice.
      size: side of the images in pixels.
      seed: the seed; another gives entirely different pairs.
      difficulty: as for `Scenes`.
      num_raters: raters of each pair.
      choices: one of `CHOICES`.
      num_examples: the length; None means that of `PAIRS`. Record i does not depend on
        it.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self,
        split: str,
        size: int,
        *,
        seed: int = 0,
        difficulty: str = "full",
        num_raters: int = 1,
        choices: str = "raters",
        num_examples: int | None = None,
    ):
        number = num_examples
        if number is None:
            number = PAIRS.get(split, 0)
        scenes = Scenes(split, size, difficulty=difficulty, num_examples=number)
        if not 1 <= num_raters <= raters.RATERS:
            raise ValueError(
                f"pairs of scenes have 1 to {raters.RATERS} raters, got {num_raters}"
            )
        if choices not in CHOICES:
            raise ValueError(
                f"unknown choices {choices!r} of pairs of scenes; known: "
                f"{', '.join(CHOICES)}"
            )
        self.split, self.size, self.difficulty = split, scenes.size, difficulty
        self.seed, self.num_raters, self.choices = seed, num_raters, choices
        self.num_examples = scenes.num_examples

    def __len__(self) -> int:
        return self.num_examples

    def describe(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the descriptions of both scenes of pair `index`."""
        key = ("pairs", self.seed, self.split, self.difficulty, index)
        first, second = (
            description.describe(
                Dice(*key),
                split=self.split,
                difficulty=self.difficulty,
                flaw_dice=Dice(*key, side),
            )
            for side in ("first", "second")
        )
        return first, second

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)} pairs of scenes")
        index = int(index) % len(self)
        scenes = self.describe(index)
        key = (self.seed, self.split, self.difficulty, index)
        votes = raters.compare(Dice("choices", *key), scenes, self.num_raters)
        if self.choices == "random" and Dice("coin", *key).chance(0.5):
            votes = {name: 1 - share for name, share in votes.items()}
        uid = f"pairs-{self.difficulty}-{self.seed}-{self.split}-{index:06d}"
        first, second = (
            {
                "uid": f"{uid}-{side}",
                "image": drawing.draw(scene, self.size),
                "prompt": scene["prompt"],
            }
            for side, scene in zip("ab", scenes, strict=True)
        )
        fields = {f"{name}_preference": share for name, share in votes.items()}
        return {**first, "other": second, **fields}


def scene_pairs(split: str, options: Mapping[str, Any]) -> ScenePairs:
    """Returns the pairs of a split, as configured in `config.input`.

    Args:
      split: "train", "dev" or "test".
      options: `image_size`; `scenes`, of which pairs have the `difficulty`; and
        `pairs_of_scenes` with, optionally, `train_examples` and `train_choices` of the
        training pairs, and `raters` of all.

    Raises:
      ValueError: an option is unknown or impossible.
    """
    given = options.get("pairs_of_scenes") or {}
    known = ("train_examples", "train_choices", "raters")
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(
            f"config.input.pairs_of_scenes has no option {', '.join(unknown)}; it has "
            f"{', '.join(known)}"
        )
    train = given if split == "train" else {}
    return ScenePairs(
        split,
        options["image_size"],
        difficulty=(options.get("scenes") or {}).get("difficulty", "full"),
        num_raters=given.get("raters", 1),
        choices=train.get("train_choices", "raters"),
        num_examples=train.get("train_examples"),
    )
