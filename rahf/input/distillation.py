"""A student's config: any config, taught by a teacher's predictions in place of labels.

The dataset `distilled` has the tasks of every dataset with all kinds of feedback, with the
teacher's marks of words as labels (`rahf.input.catalog`), and besides

    distilled_soft_words                     its probability of each word (augmented prompt)
    distilled_soft_multihead                 the same and the six other targets
    distilled_soft_multihead_word_presence   these and word presence
"""

import copy
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rahf.datasets import distilled
from rahf.datasets.distilled import SOFT_WORDS, WORDS
from rahf.input.registry import (
    Task,
    find,
    import_modules,
    register,
    register_dataset,
)
from rahf.models import passes
from rahf.targets import FEEDBACK

_PRESENCE = "word_presence"
#: The share of prompts on which a student without labels is measured.
DEV_SHARE = 0.02


def _taught(name: str) -> str:
    """Returns the target that a student learns in place of a predicted one."""
    return SOFT_WORDS.name if name == WORDS.name else name


def register_tasks() -> tuple[str, ...]:
    """Adds the tasks and mixtures of this dataset; returns their names."""
    records, every = distilled.distilled_records, tuple(map(_taught, FEEDBACK))
    names = register_dataset("distilled", records)
    soft, both = "distilled_soft_multihead", (*every, _PRESENCE)
    tasks = [
        Task("distilled_soft_words", (SOFT_WORDS.name,), records),
        Task(soft, every, records, augment=False),
        Task(f"{soft}_word_presence", both, records, augment=False),
    ]
    return (*(register(task).name for task in tasks), *names)


def own_records(config) -> tuple[Sequence[Any], dict[str, Any]]:
    """Returns the training records of a config's own task, and what identifies them.

    Raises:
      ValueError: the task is unknown, is that of a teacher's predictions, or has no
        records with indices.
    """
    tasks, options = _tasks(config), config.input.to_dict()
    sources = {task.records for task in tasks}
    if distilled.distilled_records in sources or len(sources) > 1:
        raise ValueError(
            f"config.task.name={config.task.name!r}: expected the task of one dataset "
            "with pictures to ask a teacher about; name pictures with --images"
        )
    records = sources.pop()("train", options)
    if not isinstance(records, Sequence):
        raise ValueError(  # noqa: TRY004  the config is at fault
            f"config.task.name={config.task.name!r} reads shards; name them with "
            "--images"
        )
    known = {k: v for k, v in options.items() if isinstance(v, dict) and k != "augment"}
    digest = getattr(records, "digest", None)
    return records, {
        "kind": "task",
        "dataset": sorted({task.name.partition("_")[0] for task in tasks}),
        "number": len(records),
        "side": config.input.image_size,
        "options": known,
        "digest": str(digest()) if callable(digest) else None,
    }


def _tasks(config) -> list[Task]:
    from rahf.input import catalog  # noqa: F401  registers the built-in tasks

    try:
        return find(config.task.name)
    except ValueError:  # a user's task
        import_modules(config)
        return find(config.task.name)


def student_config(config, cache: str, *, own_pictures: bool):
    """Returns the config of a student of the teacher whose predictions are in a folder.

    What is trained, with which optimizer and for how long is as the config has it; the
    task becomes that of the teacher's predictions. The student is evaluated on
    `config.eval.task` if that is set, on the task that the config had if the pictures
    are its own, and else against the teacher, on prompts that are held out for that.

    Args:
      config: the config of the student, with labels; it is not changed.
      cache: the folder, complete.
      own_pictures: whether the pictures are those of the config's task.

    Raises:
      ValueError: the config asks for a target that the teacher does not predict, or for
        one that cannot be taught.
    """
    about = distilled.read_teacher(pathlib.Path(cache))
    wanted = [name for name in config.task.targets if name in FEEDBACK]
    others = set(config.task.targets) - {*FEEDBACK, _PRESENCE, SOFT_WORDS.name}
    if others or not wanted:
        raise ValueError(
            f"config.task.targets={tuple(config.task.targets)}: a student can be taught "
            f"{', '.join(FEEDBACK)} and {_PRESENCE}"
            + (f", not {', '.join(sorted(others))}" if others else "")
        )
    if missing := [n for n in wanted if n not in about["teacher"]["targets"]]:
        raise ValueError(
            f"config.task.targets: the teacher does not predict {', '.join(missing)}; it "
            f"predicts {', '.join(about['teacher']['targets'])}"
        )
    if (side := config.input.image_size) > about["side"]:
        raise ValueError(
            f"config.input.image_size={side}: {cache} holds pictures of {about['side']} "
            "pixels; choose another --cache"
        )
    student = copy.deepcopy(config)
    with student.unlocked():
        labels = config.eval.get("task") or (own_pictures and config.task.name)
        student.eval.task = labels or _marks(student, wanted)
        _teach(student, wanted)
        student.input.loader = "grain"
        student.input.distilled = {
            "path": str(pathlib.Path(cache).absolute()),
            "targets": tuple(wanted),
            "dev_share": 0.0 if labels else DEV_SHARE,
            "teacher": {  # its path may change, like those of data
                "path": about["teacher"]["path"],
                "step": about["teacher"]["step"],
                "digest": about["teacher"]["digest"],
            },
        }
    return student


def _marks(student, wanted: Sequence[str]) -> str:
    """Returns the task that measures a student against its teacher."""
    if passes.is_augmented(student):
        return "+".join(f"distilled_{name}" for name in wanted)
    return "distilled_multihead"


def _teach(student, wanted: Sequence[str]) -> None:
    """Gives a config the task of a teacher's predictions."""
    task, weights = student.task, dict(student.task.get("weights") or {})
    soft = (SOFT_WORDS.name,) if WORDS.name in wanted else ()
    presence = _PRESENCE in task.targets and bool(soft)
    given = [name for name in task.targets if name != SOFT_WORDS.name]
    if passes.is_augmented(student):
        task.weights = _weights(student, weights, wanted)
        task.name = "+".join(f"distilled_{_taught(name)}" for name in wanted)
    else:
        task.weights = {}
        task.name = "distilled_soft_multihead" + "_word_presence" * presence
    task.targets = (*given, *soft)
    if soft:
        weight = student.loss_weights.get(WORDS.name, 1.0)
        student.loss_weights[SOFT_WORDS.name] = float(weight)


def _weights(
    student, weights: Mapping[str, Any], wanted: Sequence[str]
) -> dict[str, float]:
    """Returns the weights of tasks that ask for one target, under their new names."""
    found = {}
    for task in _tasks(student) if weights else ():
        if task.name in weights and task.targets[0] in wanted:
            found[f"distilled_{_taught(task.targets[0])}"] = float(weights[task.name])
    return found
