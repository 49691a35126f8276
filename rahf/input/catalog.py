"""Every built-in task and mixture, by dataset.

Importing this module registers them for the grain loader; the modules in `tasks/`
register the same ones with seqio. See docs/tasks.md for tasks of your own.

For a dataset that has all seven kinds of feedback the names are

    <dataset>_<target>                   one target per example (augmented prompt)
    <dataset>_captioning                 image -> prompt
    <dataset>_multihead                  all seven targets in every example
    <dataset>_without_words              the six heatmaps and scores in every example
    <dataset>_word_presence              which pieces of the prompt the image shows
    <dataset>_multihead_word_presence    the seven targets and word presence

and the mixtures, in equal parts, <dataset>_seven, <dataset>_seven_captioning and
<dataset>_multihead_captioning.

Tasks of pairs of images, from which a score learns by people's choices (docs/preferences.md),
are

    pick_a_pic_pairs             the overall score, from files in Pick-a-Pic's form
    pick_a_pic_pairs_<score>     another one
    pairs_of_scenes              the overall score, from simulated raters' choices
    pairs_of_scenes_<score>      another one

and the mixture pairs_of_scenes_multihead is scenes_multihead_word_presence and
pairs_of_scenes.
"""

import functools
from collections.abc import Callable, Mapping

from rahf.datasets import captions, distilled, pick_a_pic_pairs, rated_images
from rahf.datasets.ratings import consolidated
from rahf.datasets.richhf import PUBLISHED
from rahf.datasets.richhf.records import RichHF
from rahf.datasets.scenes import SPLITS as SCENES
from rahf.datasets.scenes import faithful_records, scenes_records
from rahf.datasets.scenes.pairs import scene_pairs
from rahf.datasets.splits import SPLITS
from rahf.input import distillation
from rahf.input.registry import (
    MakeRecords,
    Task,
    register,
    register_dataset,
    register_mixture,
)
from rahf.targets import COMPARED, preference_of

#: Dataset -> the names of its tasks, then of its mixtures.
NAMES: dict[str, tuple[str, ...]] = {
    "scenes": register_dataset("scenes", scenes_records, faithful_records),
    "richhf": register_dataset("richhf", RichHF.from_options),
    "consolidated": register_dataset(
        "consolidated", consolidated.Consolidated.from_options
    ),
}

#: Dataset -> split -> number of records, unless a config changes it; 0 if only the
#: data itself determines it.
SIZES: dict[str, Mapping[str, int]] = {
    "scenes": SCENES,
    "richhf": PUBLISHED,
    "consolidated": dict.fromkeys(SPLITS, 0),
    "rated_images": dict.fromkeys(SPLITS, 0),
    "distilled": dict.fromkeys(distilled.SPLITS, 0),
}


def _register_rated_images() -> tuple[str, ...]:
    """Registers a task for each score, and one for all scores in the config's table."""
    tasks = [
        Task(
            f"rated_images_{name}",
            (name,),
            functools.partial(rated_images.make_records, wanted=(name,)),
        )
        for name in rated_images.TARGETS
    ]
    tasks.append(
        Task(
            "rated_images_multihead",
            rated_images.TARGETS,
            functools.partial(rated_images.make_records, wanted=rated_images.TARGETS),
            augment=False,
        )
    )
    return tuple(register(task).name for task in tasks)


def _register_pairs(
    dataset: str, records: Callable[[str], MakeRecords]
) -> tuple[str, ...]:
    """Registers a task of pairs for each score.

    Args:
      dataset: the name of the task of overall impressions, and the prefix of the others.
      records: score -> the pairs that compare it.
    """
    names = []
    for score in COMPARED:
        name = dataset if score == "overall" else f"{dataset}_{score}"
        task = Task(name, (preference_of(score),), records(score), augment=None)
        names.append(register(task).name)
    return tuple(names)


NAMES["pick_a_pic_pairs"] = _register_pairs(
    "pick_a_pic_pairs",
    lambda score: functools.partial(pick_a_pic_pairs.pick_a_pic_pairs, score=score),
)
NAMES["pairs_of_scenes"] = (
    *_register_pairs("pairs_of_scenes", lambda score: scene_pairs),
    "pairs_of_scenes_multihead",
)
register_mixture(
    "pairs_of_scenes_multihead", ("scenes_multihead_word_presence", "pairs_of_scenes")
)
NAMES["rated_images"] = _register_rated_images()
NAMES["distilled"] = distillation.register_tasks()
NAMES["captions"] = (
    register(Task("captions", ("caption",), captions.captions_records)).name,
)
