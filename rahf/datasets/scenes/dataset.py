"""`Scenes`: the procedural dataset as a sequence of records."""

from collections.abc import Mapping, Sequence
from typing import Any

from rahf.datasets.ratings import consolidation
from rahf.datasets.scenes import description, drawing, grammar, raters
from rahf.datasets.scenes.dice import Dice

#: Split -> default number of records.
SPLITS = {"train": 20_000, "dev": 1_000, "test": 1_000}
SMALLEST, LARGEST = 64, 512


class Scenes(Sequence[dict[str, Any]]):
    """Pictures with known flaws, labelled the way people would label them.

    Records are made on demand, with the same bytes on every machine. A record's
    scene, prompt and ratings do not depend on the image size. Splits never share a
    scene; the test split also names pairs of object and colour that no other split
    has (`grammar.HELD_OUT`).

    A record holds `uid`, `image` (uint8[H, W, 3]), `prompt`, the label fields of
    `consolidation.consolidate`, and

      ratings: the three raw ratings behind the labels;
      scene: the JSON-able description that the oracle reads.

    Args:
      split: "train", "dev" or "test".
      size: side of the square images in pixels, 64 to 512, or (height, width).
      seed: the seed of the dataset; another seed gives entirely different scenes.
      difficulty: "full", or "simple": one or two large objects, plain
        backgrounds, strong flaws, 4 to 12 words.
      faithful: whether the pictures show what their prompts say: no word is wrong,
        and the misalignment heatmap is empty. Other flaws are unaffected.
      num_examples: the length; None means 20,000 for train, 1,000 for dev and test.
        Record i does not depend on it.

    Raises:
      ValueError: an unknown split or difficulty, or a size out of range.
    """

    def __init__(
        self,
        split: str,
        size: int | tuple[int, int],
        *,
        seed: int = 0,
        difficulty: str = "full",
        faithful: bool = False,
        num_examples: int | None = None,
    ):
        if split not in SPLITS:
            raise ValueError(
                f"unknown split {split!r} of scenes; known: {', '.join(SPLITS)}"
            )
        if difficulty not in grammar.DIFFICULTIES:
            raise ValueError(
                f"unknown difficulty {difficulty!r} of scenes; "
                f"known: {', '.join(grammar.DIFFICULTIES)}"
            )
        height, width = (size, size) if isinstance(size, int) else size
        if not (SMALLEST <= min(height, width) and max(height, width) <= LARGEST):
            raise ValueError(
                f"scenes are drawn at {SMALLEST} to {LARGEST} pixels, got size={size}"
            )
        if num_examples is not None and num_examples < 0:
            raise ValueError(f"num_examples must be at least 0, got {num_examples}")
        self.split = split
        self.size = (int(height), int(width))
        self.seed = seed
        self.difficulty = difficulty
        self.faithful = faithful
        self.num_examples = SPLITS[split] if num_examples is None else num_examples

    def __len__(self) -> int:
        return self.num_examples

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"Scenes({self.split!r}, ({height}, {width}), seed={self.seed}, "
            f"difficulty={self.difficulty!r}, faithful={self.faithful}, "
            f"num_examples={self.num_examples})"
        )

    def describe(self, index: int) -> dict[str, Any]:
        """Returns the description of scene `index`, without drawing it."""
        names = ("scenes", self.seed, self.split, self.difficulty)
        names += ("faithful",) if self.faithful else ()
        return description.describe(
            Dice(*names, index),
            split=self.split,
            difficulty=self.difficulty,
            faithful=self.faithful,
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {self!r}")
        index = int(index) % len(self)
        scene = self.describe(index)
        noise = Dice("raters", self.seed, self.split, self.difficulty, index)
        ratings = raters.rate(noise, scene)
        prompt = scene["prompt"]
        names = (self.difficulty, *(("faithful",) if self.faithful else ()))
        kind = "-".join(names)
        return {
            "uid": f"scenes-{kind}-{self.seed}-{self.split}-{index:06d}",
            "image": drawing.draw(scene, self.size),
            "prompt": prompt,
            "ratings": ratings,
            "scene": scene,
            **consolidation.consolidate(ratings, prompt, size=self.size),
        }


def scenes_records(split: str, options: Mapping[str, Any]) -> Scenes:
    """Returns the scenes of a split, as configured in `config.input`.

    Args:
      split: "train", "dev" or "test".
      options: `image_size`, and under `scenes` optionally `difficulty`,
        `train_examples` and `train_seed`, another of which gives other training scenes
        and the same dev and test.
    """
    scenes = options.get("scenes") or {}
    train = scenes if split == "train" else {}
    number = train.get("train_examples")
    return Scenes(
        split,
        options["image_size"],
        seed=train.get("train_seed", 0),
        difficulty=scenes.get("difficulty", "full"),
        num_examples=number,
    )


def faithful_records(split: str, options: Mapping[str, Any]) -> Scenes:
    """Returns scenes that show their prompts, for captioning; see `scenes_records`."""
    scenes = scenes_records(split, options)
    return Scenes(
        split,
        scenes.size,
        seed=scenes.seed,
        difficulty=scenes.difficulty,
        faithful=True,
        num_examples=scenes.num_examples,
    )
