"""The registry of tasks and mixtures for the grain loader."""

import dataclasses
import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rahf.targets import FEEDBACK, Kind, select

if TYPE_CHECKING:  # prediction imports this file but no datasets
    from rahf.datasets.files.tar_shards import Shards

Records = Sequence[Mapping[str, Any]]
MakeRecords = Callable[[str, Mapping[str, Any]], "Records | Shards"]


@dataclasses.dataclass(frozen=True)
class Task:
    """Targets that are asked of records.

    Attributes:
      name: the name, `<dataset>_<target>`.
      targets: names of the targets of each example.
      records: a function `(split, config.input) -> sequence of records` or shards.
      augment: whether the target is written into the prompt (one target only); None =
        if the model's variant is that.
      order: a text that determines the order of examples together with the seed; by
        default the name. A renamed task keeps its former name here, so that runs can
        be continued.
    """

    name: str
    targets: tuple[str, ...]
    records: MakeRecords
    augment: bool | None = True
    order: str = ""

    @property
    def order_name(self) -> str:
        """The text that determines the order of examples."""
        return self.order or self.name


TASKS: dict[str, Task] = {}
MIXTURES: dict[str, tuple[str, ...]] = {}


def register(task: Task) -> Task:
    """Adds a task; raises ValueError if another one has the same name."""
    select(task.targets)
    if task.name in MIXTURES or TASKS.setdefault(task.name, task) != task:
        raise ValueError(f"task {task.name!r} is already registered")
    return task


def register_mixture(name: str, tasks: Sequence[str]) -> None:
    """Adds a mixture of equal parts of registered tasks, built-in ones among them."""
    if not set(tasks) <= set(TASKS):
        from rahf.input import catalog  # noqa: F401  registers the built-in tasks
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(
            f"mixture {name!r} needs registered tasks, got {list(tasks)}; "
            f"known: {', '.join(TASKS)}"
        )
    if name in TASKS or MIXTURES.setdefault(name, tuple(tasks)) != tuple(tasks):
        raise ValueError(f"mixture {name!r} is already registered")


def register_dataset(
    dataset: str, records: MakeRecords, captions: MakeRecords | None = None
) -> tuple[str, ...]:
    """Adds the tasks and mixtures of a dataset that has all seven kinds of feedback.

    Args:
      dataset: the prefix of their names.
      records: the records, see `Task`.
      captions: the records for captioning, if there are images that show their
        prompts; by default `records`.

    Returns:
      The names of the tasks, then of the mixtures.
    """
    for name in FEEDBACK:
        register(Task(f"{dataset}_{name}", (name,), records))
    register(Task(f"{dataset}_captioning", ("caption",), captions or records))
    presence, old = ("word_presence",), f"{dataset}_shown_words"
    register(Task(f"{dataset}_word_presence", presence, records, order=old))
    seven = tuple(f"{dataset}_{name}" for name in FEEDBACK)
    multihead, captioning = f"{dataset}_multihead", f"{dataset}_captioning"
    register(Task(multihead, FEEDBACK, records, augment=False))
    wordless = tuple(row.name for row in select(FEEDBACK) if row.kind is not Kind.WORDS)
    image = f"{dataset}_without_words"
    register(Task(image, wordless, records, augment=False))
    everything, old = (*FEEDBACK, *presence), f"{multihead}_shown_words"
    register(
        Task(
            f"{multihead}_word_presence", everything, records, augment=False, order=old
        )
    )
    mixtures = {
        f"{dataset}_seven": seven,
        f"{dataset}_seven_captioning": (*seven, captioning),
        f"{multihead}_captioning": (multihead, captioning),
    }
    for name, tasks in mixtures.items():
        register_mixture(name, tasks)
    others = (captioning, f"{dataset}_word_presence", multihead, image)
    return (*seven, *others, f"{multihead}_word_presence", *mixtures)


def import_modules(config) -> None:
    """Imports `config.task.modules`, which register targets and tasks.

    Raises:
      ValueError: a module cannot be imported.
    """
    for name in config.task.get("modules", ()):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"config.task.modules: {name!r} cannot be imported ({error}); it "
                "must be on the Python path, and tasks for seqio need TensorFlow"
            ) from error
        except Exception as error:  # whatever the user's own code raises
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"config.task.modules: {name!r} fails when it is imported ({why}); "
                f"python -c 'import {name}' shows where"
            ) from error


def find(name: str) -> list[Task]:
    """Returns the task called `name`, or the tasks of that mixture.

    `a+b` is a mixture of `a` and `b`.
    """
    names: list[str] = []
    for part in parts_of(name, (*TASKS, *MIXTURES), "grain"):
        names += MIXTURES.get(part, (part,))
    return [TASKS[task] for task in dict.fromkeys(names)]


def parts_of(name: str, known: Collection[str], loader: str) -> list[str]:
    """Returns the parts of `config.task.name`, such as a and b for `a+b`.

    Raises:
      ValueError: a part is unknown to the loader.
    """
    parts = name.split("+")
    for part in parts:
        if part not in known:
            raise ValueError(
                f"config.task.name={name!r}: {part!r} is unknown to config.input."
                f"loader={loader!r}; known: {', '.join(known) or 'none'} "
                "(config.task.modules may register more)"
            )
    return parts


def weights_of(tasks: Sequence[Any], config) -> list[float]:
    """Returns the tasks' weights in a mixture, from `config.task.weights`; default 1.

    Weights of other known tasks are ignored, so that a config whose `task.name` is
    overridden can keep its weights.

    Args:
      tasks: objects with `name`.
      config: the config; `task.weights` maps names of tasks to weights.

    Raises:
      ValueError: a weight is not above 0, or its task is unknown.
    """
    weights = dict(config.task.get("weights") or {})
    names = [task.name for task in tasks]
    for name, weight in weights.items():
        known = name in names or name in TASKS
        if not known or not 0 < weight < float("inf"):
            raise ValueError(
                f"config.task.weights.{name}={weight} must be above 0, and for a task "
                f"of config.task.name={config.task.name!r}: {', '.join(names)}"
            )
    return [float(weights.get(name, 1)) for name in names]


def for_targets(tasks: Sequence[Any], wanted: Sequence[str]) -> list[Any]:
    """Returns the tasks that ask for a wanted target, in the order of `wanted`.

    Args:
      tasks: objects with `name` and `targets`; empty targets mean unknown ones.
      wanted: names of targets.

    Raises:
      ValueError: a wanted target has no task.
    """
    ranks = {name: rank for rank, name in enumerate(wanted)}
    asking = []
    for task in tasks:
        found = [ranks[name] for name in task.targets if name in ranks]
        if found or not task.targets:
            asking.append((min(found, default=len(ranks)), task.name, task))
    missing = set(wanted).difference(*(task.targets for *_, task in asking))
    if missing and all(task.targets for task in tasks):
        raise ValueError(
            f"no task of config.task.name asks for {', '.join(sorted(missing))}; its "
            "tasks: " + ", ".join(f"{task.name} {task.targets}" for task in tasks)
        )
    return [task for *_, task in sorted(asking, key=lambda entry: entry[:2])]
