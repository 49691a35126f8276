"""Checkpoints: what a run needs to go on, and what anyone needs to use it.

A workdir holds

    config.json            the whole config
    vocabulary.model       the SentencePiece model the run was trained with
    checkpoints/<step>/    Orbax: parameters, optimizer, step
    input_state/<step>/    where each process was in its data
    metrics.jsonl          a line per logged step
    events.*               the same for TensorBoard
"""

import base64
import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from rahf.checkpoints import trust
from rahf.input import vocabulary
from rahf.weights import exported, files, matching
from rahf.weights.export_layout import STATE_DICT_FILE

CONFIG_FILE = "config.json"
VOCABULARY_FILE = "vocabulary.model"


class Checkpointer:
    """Saves asynchronously, keeping the latest step and the best ones."""

    def __init__(self, workdir, config):
        self._workdir = epath.Path(workdir)
        c = config.checkpoint
        kept: list[Any] = [policies.LatestN(1)]
        if c.keep_best:
            metric = c.best_metric
            kept.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[metric],
                    n=c.keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            (self._workdir / "checkpoints").resolve(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(kept),
                # Not to choose by, but for the metrics to be written at all.
                best_fn=lambda metrics: metrics[c.best_metric],
            ),
        )
        self._metric = c.best_metric

    def latest_step(self) -> int | None:
        """The newest complete step; half-written ones do not count."""
        return self._manager.latest_step()

    def save(self, step: int, state, input_state, metrics: dict[str, float]) -> None:
        """Starts writing a step; returns once the arrays are copied.

        Args:
          step: the number of steps taken.
          state: the train state.
          input_state: from the input's `get_state`.
          metrics: of an evaluation at this step, or empty.
        """
        # The data position first: a step that Orbax commits always has one.
        path = self._input_path(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_to_json(input_state)))
        kept = (
            {self._metric: metrics[self._metric]} if self._metric in metrics else None
        )
        item = ocp.args.Composite(state=ocp.args.StandardSave(state))
        self._manager.save(step, args=item, metrics=kept, force=True)
        self._forget_old_inputs(step)

    def restore(self, abstract_state):
        """Reads the newest step: (state, input_state), sharded as asked for.

        Raises:
          ValueError: a part of it is missing or damaged.
        """
        step = self.latest_step()
        assert step is not None  # the caller has asked
        item = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        with _whole(self._workdir / "checkpoints" / str(step)):
            input_state = _from_json(json.loads(self._input_path(step).read_text()))
            return self._manager.restore(step, args=item)["state"], input_state

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _input_path(self, step: int):
        process = f"process_{jax.process_index()}.json"
        return self._workdir / "input_state" / str(step) / process

    def _forget_old_inputs(self, step: int) -> None:
        if jax.process_index() != 0:
            return
        kept = {str(s) for s in self._manager.all_steps()} | {str(step)}
        for folder in (self._workdir / "input_state").iterdir():
            if folder.name not in kept:
                folder.rmtree()


@contextlib.contextmanager
def _whole(folder: epath.Path) -> Iterator[None]:
    """Says which step cannot be read, and what to do, whatever Orbax says of it."""
    try:
        # Where this fails Orbax would, with a traceback for each array.
        store = {"driver": "ocdbt", "base": files.folder(folder / "state")}
        if not ts.KvStore.open(store).result().list().result():
            raise ValueError(f"{folder / 'state'} holds no arrays")
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        earlier = [
            str(step)
            for step in complete_steps(folder.parent.parent)
            if folder.name.isdigit() and step < int(folder.name)
        ]
        raise ValueError(
            f"{folder} is not whole, as when a copy was cut short: copy it again, or "
            f"remove it ({f'step {earlier[-1]}' if earlier else 'no earlier step'} is "
            f"beside it). {why}"
        ) from error


def _to_json(state):
    if isinstance(state, bytes):
        return {"base64": base64.b64encode(state).decode()}
    return {"json": state}


def _from_json(state):
    if "base64" in state:
        return base64.b64decode(state["base64"])
    return state["json"]


def write_config(workdir, config) -> None:
    """Writes config.json and the vocabulary beside it."""
    workdir = epath.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / CONFIG_FILE).write_text(config.to_json_best_effort(indent=2))
    model = vocabulary.load(config.input.vocabulary).serialized()
    (workdir / VOCABULARY_FILE).write_bytes(model)


def check_vocabulary(config) -> None:
    """Raises ValueError where the embedding table has too few rows."""
    words, rows = vocabulary.load(config.input.vocabulary), config.model.t5.vocab_size
    if words.size > rows:
        raise ValueError(
            f"config.model.t5.vocab_size={rows} is less than the {words.size} ids of "
            f"{words.path}; use {-(-words.size // 128) * 128}, a multiple of 128"
        )


def _folder(workdir) -> epath.Path:
    """Orbax and TensorBoard would take a URL for the name of a folder here."""
    if "://" in os.fspath(workdir):
        raise ValueError(
            f"{workdir}: a workdir is a folder on a disk, or in a bucket that is mounted "
            f"as one (Cloud Storage FUSE); URLs are not supported"
        )
    return epath.Path(workdir)


def read_config(workdir) -> Any:
    """Reads config.json of a workdir.

    Raises:
      ValueError: there is none, so this is not a workdir.
    """
    path = _folder(workdir) / CONFIG_FILE
    if not path.exists():
        raise ValueError(
            f"{path} does not exist: {workdir} is not a workdir of rahf.bin.train "
            f"(expected {CONFIG_FILE}, {VOCABULARY_FILE} and checkpoints/)"
        )
    try:
        return ml_collections.ConfigDict(json.loads(path.read_text()))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


#: Of a run that goes on. Images that are in the test split only from now on would be
#: ones that it was trained on.
_FIXED = (
    "model.",
    "task.targets",
    "input.vocabulary",
    "input.image_size",
    "optimizer.name",
    *(
        f"input.rated_images.{key}"
        for key in ("targets", "group", "split", "cut", "dev_", "test_", "seed", "fold")
    ),
)


def check_same_model(workdir, config) -> None:
    """Raises ValueError where a workdir belongs to a different model.

    What shapes the parameters is compared, and which rated images are held out: a
    run may go on with another batch size, schedule or evaluation.
    """
    if not (_folder(workdir) / CONFIG_FILE).exists():
        return
    old = read_config(workdir)
    if "imported" in old:
        raise ValueError(
            f"{workdir} holds imported weights, not a run; start one from them with "
            f"--config.init_from={workdir} and another --workdir"
        )
    old = _flat(old)
    new = _flat(ml_collections.ConfigDict(json.loads(config.to_json_best_effort())))
    for flat in (old, new):  # before this key, groups were cut by rank
        if "input.rated_images.path" in flat:
            flat.setdefault("input.rated_images.cut", "rank")
    differs = [
        f"  config.{key}: {old.get(key)!r} there, {new.get(key)!r} here"
        for key in sorted(old.keys() | new.keys())
        if key.startswith(_FIXED)
        and key not in ("model.decoding", "input.rated_images.folder")
        and old.get(key) != new.get(key)
    ]
    if differs:
        raise ValueError(
            f"{workdir} holds the checkpoint of another model or split; choose another "
            f"--workdir, or the config it was made with:\n" + "\n".join(differs)
        )


def _flat(config, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def complete_steps(workdir) -> list[int]:
    """The steps that were written to the end, in order."""
    folder = _folder(workdir) / "checkpoints"
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.exists() else []


def restore_for_inference(workdir, step: int | str | None = None):
    """Reads what prediction and evaluation need: no optimizer, one device.

    Args:
      workdir: of a training run, or a folder that rahf.bin.export wrote.
      step: a step, "latest" (default) or "best".

    Returns:
      (config, params, step); the config's vocabulary is the workdir's own file.

    Raises:
      ValueError: not a workdir, no complete checkpoint, no such step, parameters that
        do not fit the config, or modules in the folder itself.
    """
    config = read_config(workdir)
    trust.check_modules(config, workdir)
    if exported.is_exported(workdir):
        return _restore_exported(workdir, config, step)
    _refuse_state_dict(workdir)
    steps = complete_steps(workdir)
    if not steps:
        raise ValueError(
            f"{workdir}/checkpoints has no complete checkpoint; a run writes one every "
            f"config.checkpoint.every_steps={config.checkpoint.every_steps} steps"
        )
    folder = (epath.Path(workdir) / "checkpoints").resolve()
    if step is None or step == "latest":
        step = steps[-1]
    elif step == "best":
        step = _best_step(folder, config, steps)
    step = int(step)
    if step not in steps:
        raise ValueError(f"{workdir} has no step {step}; it has {steps}")
    parts = dict(config.get("imported", {"richhf": ""}))
    if "richhf" not in parts:
        raise ValueError(
            f"{workdir} holds imported parts, {' and '.join(parts)}, without heads: "
            f"train from them first (--config.init_from={workdir})"
        )
    config.input.vocabulary = str(epath.Path(workdir) / VOCABULARY_FILE)
    return config, _restore_params(folder / str(step) / "state"), step


def _refuse_state_dict(folder) -> None:
    if (epath.Path(folder) / STATE_DICT_FILE).exists():
        raise ValueError(
            f"{folder} is an export for PyTorch (--format=richhf); read the workdir it "
            f"is from, one exported with --format=safetensors, or bring it back by "
            f"rahf.bin.import_weights --richhf={folder}/{STATE_DICT_FILE}"
        )


def _restore_exported(workdir, config, step):
    """An exported folder has one step, which is its latest and its best."""
    params, found = exported.read_params(workdir)
    trust.check_parameters(config, params, workdir)
    if step not in (None, "latest", "best") and int(step) != found:
        raise ValueError(f"{workdir} has no step {step}; it was exported of {found}")
    config.input.vocabulary = str(epath.Path(workdir) / VOCABULARY_FILE)
    return config, jax.device_put(params, jax.local_devices()[0]), found


def read_params(path) -> dict[str, np.ndarray]:
    """Reads the parameters of a checkpoint into this process's memory.

    Args:
      path: a workdir, whose latest step is taken, one step's folder,
        `W/checkpoints/<step>`, or a folder that rahf.bin.export wrote.

    Returns:
      Flat parameters, {"vit/cls": array}.

    Raises:
      ValueError: there is no complete checkpoint.
    """
    if exported.is_exported(path):
        return matching.flatten(exported.read_params(path)[0])
    folder, steps = _folder(path), complete_steps(path)
    _refuse_state_dict(path)
    if steps:
        folder = folder / "checkpoints" / str(steps[-1])
    elif not (folder / "state").exists():
        raise ValueError(
            f"{path} holds no complete checkpoint; expected a workdir of "
            f"rahf.bin.train or rahf.bin.import_weights, its checkpoints/<step>, or a "
            f"folder of rahf.bin.export"
        )
    params = _restore_params((folder / "state").resolve(), host=True)
    return matching.flatten(params)


def _restore_params(path, *, host: bool = False):
    """Reads the parameters alone, each whole, onto this process's first device or,
    as numpy arrays, its host's memory."""
    # Orbax warns that this one item of a checkpoint has no metadata of its own.
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with _whole(path.parent):
            return _read_item(path, host)["params"]
    finally:
        logging.set_verbosity(verbosity)


def _read_item(path, host: bool):
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(path).item_metadata
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = jax.tree.map(
            lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=device),
            {"params": metadata["params"]},
        )
        if host:
            numpy = ocp.RestoreArgs(restore_type=np.ndarray)
            restore_args = jax.tree.map(lambda _: numpy, wanted)
        else:
            restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        return checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(
                wanted, restore_args=restore_args, partial_restore=True
            ),
        )


def _best_step(folder, config, steps) -> int:
    metric = config.checkpoint.best_metric
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics[metric])
    with ocp.CheckpointManager(folder, options=options) as manager:
        scores = {step: (manager.metrics(step) or {}).get(metric) for step in steps}
    measured = {step: score for step, score in scores.items() if score is not None}
    return max(measured, key=lambda step: measured[step]) if measured else steps[-1]
