"""Batches for training and evaluation, by config.

Two loaders give the same batches: "grain" (no TensorFlow) serves the tasks of
`rahf.input.registry`, "seqio" serves whatever is registered with seqio.
"""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from rahf.input import catalog as _catalog  # noqa: F401  registers the built-in tasks
from rahf.input import rated_columns, registry, vocabulary
from rahf.input.converter import Batch, Converter
from rahf.models import passes

LOADERS = {"grain": "rahf.input.grain_loader", "seqio": "rahf.input.seqio.loader"}


class TrainInput(Protocol):
    """An endless iterator of batches that resumes exactly."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...

    def metrics(self) -> dict[str, float]: ...

    def close(self) -> None: ...


class EvalBatches(Protocol):
    """A repeatable iterable of `(batch, infos)`.

    Attributes:
      bad_records: how many the last iteration has skipped.
    """

    bad_records: int

    def __iter__(self) -> Iterator[tuple[Batch, list[dict[str, Any]]]]: ...


def make_train_input(
    config, *, shard_index: int = 0, shard_count: int = 1
) -> TrainInput:
    """Makes the training input of one shard.

    Args:
      config: `seed`, `task` and `input` are read (docs/data.md).
      shard_index: which shard, commonly the process.
      shard_count: among how many a batch is divided.

    Returns:
      An endless iterator of batches (`rahf.input.converter.Converter`) of
      `config.input.batch_size / shard_count` rows. `get_state()` returns what
      JSON can hold; after `set_state(...)` the same batches follow. `metrics()` is
      what to log of the data (`rahf.input.bad_records`).

    Raises:
      ValueError: the config asks for what is not there.
    """
    size = config.input.batch_size
    if size < 1 or size % shard_count:
        raise ValueError(
            f"config.input.batch_size={size} must divide by {shard_count} shards"
        )
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"shard_index={shard_index} is not below {shard_count}")
    loader = _loader(config)
    rated_columns.warn_of_missing(config, loader.find(config.task.name))
    return loader.make_train_input(
        config,
        Converter.from_config(config),
        vocabulary.load(config.input.vocabulary),
        batch_size=size // shard_count,
        shard_index=shard_index,
        shard_count=shard_count,
    )


def make_eval_batches(
    config,
    *,
    split: str,
    targets: Sequence[str],
    batch_size: int | None = None,
    examples: int | None = None,
) -> EvalBatches:
    """Makes the batches of a split, in its order, once through.

    Args:
      config: as for training; `config.task.name` says which tasks to ask.
      split: "train", "dev" or "test".
      targets: the targets that are wanted; tasks for none of them are left out.
      batch_size: rows of a batch (config.input.batch_size).
      examples: how many records of the split (0 or None: all). Where every task
        asks one target, there is an example for each record and target.

    Returns:
      An iterable of `(batch, infos)`, sized where the source is, that can be
      iterated again. `infos` names the examples (`Converter.infos`); the last
      batch is padded with rows that weigh nothing and have no info. Where bad
      records are skipped, its `bad_records` says how many there were.

    Raises:
      ValueError: the config asks for what is not there.
    """
    missing = [name for name in targets if name not in config.task.targets]
    if missing or not targets:
        raise ValueError(
            f"targets {list(targets)} must be among config.task.targets="
            f"{tuple(config.task.targets)}"
        )
    loader = _loader(config)
    return loader.make_eval_batches(
        config,
        Converter.from_config(config),
        vocabulary.load(config.input.vocabulary),
        split=split,
        targets=tuple(targets),
        batch_size=batch_size or config.input.batch_size,
        examples=examples or 0,
    )


def asked_targets(config) -> tuple[str, ...]:
    """Returns which of `config.task.targets` the tasks of the config ask for."""
    tasks = _loader(config).find(config.task.name)
    known = {name for task in tasks for name in task.targets}
    # A seqio task that does not say may ask for any.
    everything = any(not task.targets for task in tasks)
    return tuple(n for n in config.task.targets if everything or n in known)


def _loader(config):
    """Returns the module of `config.input.loader`, once its tasks are known."""
    name = config.input.loader
    if name not in LOADERS:
        raise ValueError(
            f"config.input.loader={name!r} is unknown; options: {', '.join(LOADERS)}"
        )
    if name != "grain":
        registry.import_modules(config)
    else:
        try:
            registry.find(config.task.name)
        except ValueError as unknown:
            try:
                registry.import_modules(config)  # perhaps a user's task
            except ValueError as error:
                raise ValueError(f"{unknown}. Moreover, {error}") from error
    loader = importlib.import_module(LOADERS[name])
    _check_variant(config, loader)
    return loader


def _check_variant(config, loader) -> None:
    """Refuses several targets in one augmented prompt."""
    if not passes.is_augmented(config):
        return
    for task in loader.find(config.task.name):
        if len(task.targets) > 1:
            raise ValueError(
                'config.model.variant="augmented" asks one target per example, but '
                f"task {task.name!r} of config.task.name={config.task.name!r} has "
                f"{len(task.targets)}; take scenes_seven, or the variant 'multihead'"
            )
