"""Starts a new run from another's parameters, `config.init_from`."""

import sys

import jax
import numpy as np

from rahf.checkpoints import stems
from rahf.checkpoints.restore import find_params, read_params
from rahf.checkpoints.workdir import VOCABULARY_FILE, folder, is_vocabulary_of
from rahf.weights import matching

# Where the model has the network of a pretrained stem.
_NETWORK = "vit/embedding/network/"


def start_from(config, workdir, params):
    """Replaces fresh parameters by those of `config.init_from`.

    Tensors are matched by name and shape (`rahf.weights.matching`). A report on each is
    written to the workdir, and its summary to standard error.

    Args:
      config: the config with `init_from`, the workdir of a run or an import, a step's
        folder in it, or a folder of rahf.bin.export; and with `init_expect_missing`,
        patterns of the parameters that may start fresh.
      workdir: the workdir of the new run.
      params: its fresh parameters, already sharded.

    Returns:
      The parameters, sharded as before.

    Raises:
      ValueError: the checkpoint does not exist, has another vocabulary or does not fit.
    """
    fresh = matching.flatten(params)
    check_start(config)
    loaded, report = matching.match(
        fresh,
        read_params(config.init_from),
        source=f"config.init_from={config.init_from}",
        expect_missing=tuple(config.get("init_expect_missing", ())),
    )
    if jax.process_index() == 0:
        print(report.summary(), file=sys.stderr)
        report.write(workdir)
    placed = {
        name: _place(loaded[name], leaf) if name in loaded else leaf
        for name, leaf in fresh.items()
    }
    return matching.unflatten(placed)


def start_stem(config, params):
    """Replaces the fresh parameters of a stem's network by published ones.

    Args:
      config: with `model.vit.stem` and `init_stem`, see `rahf.checkpoints.stems`.
      params: the parameters, already sharded.

    Returns:
      The parameters, sharded as before; the same if the network starts fresh.

    Raises:
      MissingExtraError: the weights are not installed.
      ValueError: the weights do not exist or do not fit.
    """
    if not stems.source(config):
        return params
    flat = matching.flatten(params)
    wanted = {
        name.removeprefix(_NETWORK): tuple(leaf.shape)
        for name, leaf in flat.items()
        if name.startswith(_NETWORK)
    }
    found = stems.read(config, wanted)
    for name, value in found.items():
        flat[_NETWORK + name] = _place(value, flat[_NETWORK + name])
    if jax.process_index() == 0:
        size = sum(value.size for value in found.values())
        print(f"{size:,} parameters of {stems.origin(config)}", file=sys.stderr)
    return matching.unflatten(flat)


def check_start(config) -> None:
    """Finds out, before a model is made, whether a run can start from what it names.

    Raises:
      ValueError: `init_from` is no complete checkpoint, or its vocabulary is another;
        or `init_stem` is nothing to start from.
    """
    stems.source(config)
    if not config.get("init_from"):
        return
    try:
        find_params(config.init_from)
    except ValueError as error:
        raise ValueError(f"config.init_from: {error}") from error
    check_same_vocabulary(config)


def check_same_vocabulary(config) -> None:
    """Raises ValueError if `init_from` was trained with another vocabulary."""
    given = folder(config.init_from)
    for place in (given, given.parent.parent):  # a workdir, or one step of it
        theirs = place / VOCABULARY_FILE
        if theirs.exists():
            if not is_vocabulary_of(config, theirs):
                raise ValueError(
                    f"config.init_from={config.init_from} was trained with {theirs}, "
                    f"which differs from config.input.vocabulary="
                    f"{config.input.vocabulary}: every id would mean something else. "
                    f"Set config.input.vocabulary={theirs}"
                )
            return


def _place(value: np.ndarray, like: jax.Array) -> jax.Array:
    """Returns a host array on the devices, sharded like another; on every process."""
    value = value.astype(like.dtype)
    return jax.make_array_from_callback(
        like.shape, like.sharding, lambda index: value[index]
    )
