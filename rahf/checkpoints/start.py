"""Where a new run starts from: `config.init_from`, the parameters of another."""

import sys

import jax
import numpy as np

from rahf.checkpoints.restore import find_params, read_params
from rahf.checkpoints.workdir import VOCABULARY_FILE, folder
from rahf.input import vocabulary
from rahf.weights import matching


def start_from(config, workdir, params):
    """Replaces fresh parameters by those of `config.init_from`.

    Tensors are matched by name and shape (`rahf.weights.matching`); what became of
    each is written to the workdir and summed up on standard error.

    Args:
      config: with `init_from`, the workdir of a run or of an import, one step's
        folder of its checkpoints, or a folder of rahf.bin.export; and `init_expect_missing`, patterns of the
        parameters that may start fresh.
      workdir: of the new run.
      params: its fresh parameters, as sharded as they are to be.

    Returns:
      The parameters, sharded as they were.

    Raises:
      ValueError: there is no such checkpoint, its vocabulary is another, or it does
        not fit.
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


def check_start(config) -> None:
    """Finds out, before a model is made, whether `config.init_from` can be started from.

    Raises:
      ValueError: it is no complete checkpoint, or its vocabulary is another.
    """
    if not config.get("init_from"):
        return
    try:
        find_params(config.init_from)
    except ValueError as error:
        raise ValueError(f"config.init_from: {error}") from error
    check_same_vocabulary(config)


def check_same_vocabulary(config) -> None:
    """Raises ValueError where `init_from` was trained with other pieces."""
    given = folder(config.init_from)
    for place in (given, given.parent.parent):  # a workdir, or one step of it
        theirs = place / VOCABULARY_FILE
        if theirs.exists():
            ours = vocabulary.load(config.input.vocabulary)
            if ours.serialized() != theirs.read_bytes():
                raise ValueError(
                    f"config.init_from={config.init_from} was trained with {theirs}, "
                    f"which is another than {ours.path}: every id would mean something "
                    f"else. Set config.input.vocabulary={theirs}"
                )
            return


def _place(value: np.ndarray, like: jax.Array) -> jax.Array:
    """Puts a host array where a device array lies, on every process alike."""
    value = value.astype(like.dtype)
    return jax.make_array_from_callback(
        like.shape, like.sharding, lambda index: value[index]
    )
