"""Tasks and their loader on grain: no TensorFlow, every example made when asked.

A task says which targets are asked of which records; a mixture takes turns between
tasks. The scenes tasks stand here; a module of yours may add its own (docs/tasks.md).
tasks/scenes.py registers the same tasks with seqio.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from rahf import targets as table
from rahf.data import features
from rahf.data.converter import Batch, Converter
from rahf.data.scenes import Scenes
from rahf.data.vocabulary import Vocabulary

Records = Sequence[Mapping[str, Any]]
Infos = list[dict[str, Any]]

# Batches made ahead of the step that takes them.
_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked of which records.

    Attributes:
      name: `<dataset>_<target>`.
      targets: names of the targets that each example answers.
      records: `(split, config.input) -> sequence of records`.
      augment: whether the target is written into the prompt (one target only).
    """

    name: str
    targets: tuple[str, ...]
    records: Callable[[str, Mapping[str, Any]], Records]
    augment: bool = True


TASKS: dict[str, Task] = {}
MIXTURES: dict[str, tuple[str, ...]] = {}


def register(task: Task) -> Task:
    """Adds a task; raises ValueError if another one has this name."""
    table.select(task.targets)
    if task.name in MIXTURES or TASKS.setdefault(task.name, task) != task:
        raise ValueError(f"task {task.name!r} is already registered")
    return task


def register_mixture(name: str, tasks: Sequence[str]) -> None:
    """Adds a mixture of equal parts of registered tasks."""
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(
            f"mixture {name!r} needs registered tasks, got {list(tasks)}; "
            f"known: {', '.join(TASKS)}"
        )
    if name in TASKS or MIXTURES.setdefault(name, tuple(tasks)) != tuple(tasks):
        raise ValueError(f"mixture {name!r} is already registered")


def find(name: str) -> list[Task]:
    """Returns the task called `name`, or those of the mixture called so."""
    if name in MIXTURES:
        return [TASKS[task] for task in MIXTURES[name]]
    if name not in TASKS:
        raise ValueError(
            f"config.task.name={name!r} is not known to config.input.loader="
            f"'procedural'; known: {', '.join((*TASKS, *MIXTURES))}"
        )
    return [TASKS[name]]


def for_targets(tasks: Sequence[Any], wanted: Sequence[str]) -> list[Any]:
    """Returns the tasks that ask for a wanted target, in the order of `wanted`.

    Args:
      tasks: anything with `name` and `targets`; no targets means unknown ones.
      wanted: names of targets.

    Raises:
      ValueError: no task asks for one of `wanted`.
    """
    places = {name: place for place, name in enumerate(wanted)}
    asking = []
    for task in tasks:
        found = [places[name] for name in task.targets if name in places]
        if found or not task.targets:
            asking.append((min(found, default=len(places)), task.name, task))
    missing = set(wanted).difference(*(task.targets for *_, task in asking))
    if missing and all(task.targets for task in tasks):
        raise ValueError(
            f"nothing in config.task.name asks for {', '.join(sorted(missing))}; its "
            "tasks: " + ", ".join(f"{task.name} {task.targets}" for task in tasks)
        )
    return [task for *_, task in sorted(asking, key=lambda entry: entry[:2])]


def scenes_records(split: str, options: Mapping[str, Any]) -> Scenes:
    """Returns the scenes of a split, as `config.input` wants them.

    Args:
      split: "train", "dev" or "test".
      options: `image_size`, and in `scenes` optionally `difficulty` and
        `train_examples`.
    """
    scenes = options.get("scenes") or {}
    number = scenes.get("train_examples") if split == "train" else None
    return Scenes(
        split,
        options["image_size"],
        difficulty=scenes.get("difficulty", "full"),
        num_examples=number,
    )


class TrainInput:
    """An endless iterator of batches that resumes exactly."""

    def __init__(self, batches: grain.IterDataset, workers: int):
        self._batches, self._workers = iter(batches), workers

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """Returns where the next batch stands, as JSON can hold it."""
        return {"workers": self._workers, "iterator": self._batches.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues where `get_state` was called.

        Raises:
          ValueError: another loader, or one of other workers, made the state.
        """
        if not isinstance(state, dict) or "workers" not in state:
            raise ValueError(
                "config.input.loader='procedural' cannot continue a run of another "
                "loader; set config.input.loader as it was"
            )
        if state["workers"] != self._workers:
            raise ValueError(
                f"config.input.workers={self._workers}, but the run to continue had "
                f"{state['workers']}; batches stand in another order among them"
            )
        self._batches.set_state(state["iterator"])

    def close(self) -> None:
        """Ends the worker processes, if there are any."""
        self._batches.close()


class EvalBatches:
    """A sized, repeatable iterable of `(batch, infos)`."""

    def __init__(self, batches: grain.MapDataset, options: grain.ReadOptions):
        self._batches, self._options = batches, options

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Batch, Infos]]:
        return iter(self._batches.to_iter_dataset(self._options))


def make_train_input(
    config,
    converter: Converter,
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    shard_index: int,
    shard_count: int,
) -> TrainInput:
    """Makes the input of one shard; see `rahf.data.input.make_train_input`."""
    streams = []
    for task in find(config.task.name):
        asked = _Asked.of(task, "train", config, vocabulary)
        # Folding in the name gives every stream of a mixture its own order.
        seed = zlib.crc32(f"{config.seed}/{task.name}".encode())
        indices = grain.MapDataset.range(len(asked.records)).shuffle(seed).repeat()
        streams.append(indices.map(asked))
    examples = streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams)
    # Shards take turns by batches, so that together they make the batches that one
    # shard alone would make.
    batches = examples.batch(
        batch_size, drop_remainder=True, batch_fn=_Batched(converter, batch_size)
    )[shard_index::shard_count]
    dataset = batches.to_iter_dataset(_read_options())
    if config.input.workers:
        if not flags.FLAGS.is_parsed():  # grain reads its flags, also in a library
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=config.input.workers)
        )
    return TrainInput(dataset, config.input.workers)


def make_eval_batches(
    config,
    converter: Converter,
    vocabulary: Vocabulary,
    *,
    split: str,
    targets: Sequence[str],
    batch_size: int,
    examples: int,
) -> EvalBatches:
    """Makes the batches of a split; see `rahf.data.input.make_eval_batches`."""
    streams = []
    for task in for_targets(find(config.task.name), targets):
        asked = _Asked.of(task, split, config, vocabulary)
        number = min(examples or len(asked.records), len(asked.records))
        streams.append(grain.MapDataset.range(number).map(asked))
    batches = grain.MapDataset.concatenate(streams).batch(
        batch_size, batch_fn=_BatchedWithInfos(converter, batch_size)
    )
    return EvalBatches(batches, _read_options())


def _read_options() -> grain.ReadOptions:
    # Making an example is mostly Python: more threads would wait for each other.
    return grain.ReadOptions(num_threads=2, prefetch_buffer_size=_AHEAD)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Index of a record -> task features."""

    task: str
    rows: tuple[table.Target, ...]
    records: Records
    options: dict[str, Any]

    @classmethod
    def of(cls, task: Task, split: str, config, vocabulary: Vocabulary) -> "_Asked":
        records = task.records(split, config.input)
        if not len(records):
            raise ValueError(f"task {task.name!r} has no records in split {split!r}")
        options = {
            "vocabulary": vocabulary,
            "augment": task.augment,
            "image_size": config.input.image_size,
            "text_length": config.input.text_length,
            "target_length": config.input.target_length,
            "task": task.name,
        }
        return cls(task.name, tuple(table.select(task.targets)), records, options)

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        # A worker process has not run the module that registered a user's target.
        names = [table.register(row).name for row in self.rows]
        return features.ask(self.records[int(index)], names, **self.options)


@dataclasses.dataclass(frozen=True)
class _Batched:
    """Examples -> batch."""

    converter: Converter
    batch_size: int

    def __call__(self, examples: Sequence[Any]) -> Any:
        return self.converter(examples, self.batch_size)


class _BatchedWithInfos(_Batched):
    """Examples -> batch and who is in it."""

    def __call__(self, examples: Sequence[Any]) -> Any:
        return super().__call__(examples), self.converter.infos(examples)


for _name in (*table.FEEDBACK, "caption"):
    _task = "captioning" if _name == "caption" else _name
    register(Task(f"scenes_{_task}", (_name,), scenes_records))
register(Task("scenes_multihead", table.FEEDBACK, scenes_records, augment=False))
_SEVEN = tuple(f"scenes_{name}" for name in table.FEEDBACK)
register_mixture("scenes_seven", _SEVEN)
register_mixture("scenes_seven_captioning", (*_SEVEN, "scenes_captioning"))
register_mixture(
    "scenes_multihead_captioning", ("scenes_multihead", "scenes_captioning")
)
