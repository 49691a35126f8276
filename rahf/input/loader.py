"""Makes batches for training and evaluation from a config.

Two loaders give the same batches: "grain" (without TensorFlow) serves the tasks of
`rahf.input.registry`, "seqio" those registered with seqio.
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
      bad_records: the number of bad records skipped in the last iteration.
    """

    bad_records: int

    def __iter__(self) -> Iterator[tuple[Batch, list[dict[str, Any]]]]: ...


def make_train_input(
    config, *, shard_index: int = 0, shard_count: int = 1
) -> TrainInput:
    """Makes the training input of one shard.

    Args:
      config: the config; `seed`, `task` and `input` are read (docs/input.md).
      shard_index: the index of the shard, usually of the process.
      shard_count: the number of shards into which batches are divided.

    Returns:
      An endless iterator of batches (`rahf.input.converter.Converter`) of
      `config.input.batch_size / shard_count` rows. `get_state()` returns JSON-able
      values; after `set_state(...)` the same batches follow. `metrics()` returns what
      to log about the data (`rahf.input.bad_records`).

    Raises:
      ValueError: the config is invalid, or the data it names does not exist.
    """
    size = config.input.batch_size
    if size < 1:
        raise ValueError(f"config.input.batch_size={size}: expected at least 1")
    if size % shard_count:
        raise ValueError(
            f"config.input.batch_size={size} must be divisible by {shard_count} shards"
        )
    if not 0 <= shard_index < shard_count:
        raise ValueError(
            f"shard_index={shard_index} must be in [0, shard_count={shard_count})"
        )
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
    """Makes the batches of a split, in order and only once.

    Args:
      config: as for training; `config.task.name` selects the tasks.
      split: "train", "dev" or "test".
      targets: the targets to evaluate; tasks with none of them are omitted.
      batch_size: the number of rows in a batch (config.input.batch_size).
      examples: the number of records to use (0 or None: all). If every task asks for
        one target, there is an example for each record and target.

    Returns:
      An iterable of `(batch, infos)` that can be iterated over again, and has a length
      if its source has one. `infos` describes the examples (`Converter.infos`); the
      last batch is padded with rows of weight 0, which have no info. If bad records are
      skipped, `bad_records` is their number.

    Raises:
      ValueError: the config is invalid, or the data it names does not exist.
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
    """Returns those of `config.task.targets` that the config's tasks ask for."""
    tasks = _loader(config).find(config.task.name)
    known = {name for task in tasks for name in task.targets}
    # A seqio task without declared targets may ask for any.
    everything = any(not task.targets for task in tasks)
    return tuple(n for n in config.task.targets if everything or n in known)


def _loader(config):
    """Returns the module of `config.input.loader`, with its tasks registered."""
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
    """Raises ValueError for several targets in one augmented prompt."""
    if not passes.is_augmented(config):
        return
    for task in loader.find(config.task.name):
        if len(task.targets) > 1:
            raise ValueError(
                'config.model.variant="augmented" needs one target per example, but '
                f"task {task.name!r} of config.task.name={config.task.name!r} has "
                f"{len(task.targets)}; use scenes_seven, or the variant 'multihead'"
            )
