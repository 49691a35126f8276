"""What a run that goes on may change, and how the changes are kept.

config.json of a workdir holds "segments": a list with one entry for the start and one
for each resumption with another config, as

    {"from_step": 2000, "data": "9f3c...", "changed": {"input.batch_size": [32, 64]}}

`data` is the digest of the training data, where the datasets offer one.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from rahf.checkpoints import workdir as workdirs

#: What the code does where a key is missing, because the config is older than the key.
DEFAULTS: dict[str, Any] = {
    "model.decoding": "constrained",
    "model.word_presence": False,
    "model.vit.class_token": True,
    "model.vit.stem": "patch",
    "model.vit.exact_gelu": False,
    "model.vit.norm_epsilon": 1e-6,
    "input.prompts": "whole",
    "input.augment.crop": 1.0,
    "input.augment.flip": False,
    "input.augment.colour": 0.0,
    "input.rated_images.cut": "rank",  # before groups were hashed
}
#: How and where a run computes, measures and saves: changes nothing that is learned.
_FREE = (
    "sharding.",
    "eval.",
    "checkpoint.",
    "log.",
    "init_",
    "task.modules",
    "input.vocabulary",  # its bytes are compared, wherever it lies
    "input.workers",  # the input itself refuses others
    "input.cache",
    "input.bad_",
    "model.remat",
    "model.decoding",
)
#: Last parts of the keys that say where data lies; its digest is compared.
_PLACES = ("path", "folder", "data_dir", "train", "dev", "test")
#: What may change on the way, and is then recorded. Keys of no other kind may.
_RECORDED = (
    "training_steps",
    "schedule.",
    "optimizer.",
    "loss_weights.",
    "input.batch_size",
    "input.augment.",
    "input.text_length",
    "input.target_length",
    "model.dropout",
    "model.dtype",
)
_FIXED_TOO = ("optimizer.name",)


def check_no_import(workdir: str | os.PathLike, config) -> None:
    """Raises ValueError where a workdir holds imported weights."""
    if "imported" in config:
        raise ValueError(
            f"{workdir} holds imported weights, not a run; start one from them with "
            f"--config.init_from={workdir} and another --workdir"
        )


def compare(workdir: str | os.PathLike, config) -> dict[str, list[Any]]:
    """Compares a config with the one that a workdir was trained with.

    Args:
      workdir: with config.json.
      config: to go on with.

    Returns:
      What has changed and may, {key: [before, after]}.

    Raises:
      ValueError: something that may not change differs: what shapes the parameters,
        the seed, the task, its data or which of it is held out.
    """
    old = workdirs.read_config(workdir)
    check_no_import(workdir, old)
    before, after = _flat(old), _flat(_as_read(config))
    changed = {
        key: [each.get(key, DEFAULTS.get(key)) for each in (before, after)]
        for key in sorted(before.keys() | after.keys())
        if _differs(key, before, after)
    }
    refused = {key: pair for key, pair in changed.items() if _is_fixed(key)}
    if refused:
        listed = "; ".join(
            f"config.{key}: {there!r} there, {here!r} here"
            for key, (there, here) in refused.items()
        )
        raise ValueError(
            f"{workdir} holds a run of another model, seed or data; choose another "
            f"--workdir, or the config it was made with: {listed}"
        )
    return changed


def extend(
    segments: Sequence[Mapping[str, Any]],
    step: int,
    changed: Mapping[str, list[Any]],
    data: str | None,
) -> list[dict[str, Any]]:
    """Returns the segments of a run that goes on.

    Args:
      segments: those in config.json, () for a new run.
      step: from which the run goes on; segments that began there or later, and came to
        no checkpoint, become one.
      changed: from `compare`.
      data: the digest of the training data, if it is known.

    Raises:
      ValueError: the data is not that of the segments before.
    """
    first, *rest = [dict(each) for each in segments] or [{"from_step": 0}]
    kept = [first, *(each for each in rest if each["from_step"] < step)]
    known = [each["data"] for each in (first, *rest) if each.get("data")]
    if data and known and data != known[-1]:
        raise ValueError(
            f"the training data is not what the run was trained on until step {step} "
            f"(digest {data}, then {known[-1]}): rows or files were added, removed or "
            f"edited, and what is held out now may have been trained on. Bring the data "
            f"back, or start another workdir with --config.init_from"
        )
    merged: dict[str, list[Any]] = {}
    undone = [each["changed"] for each in rest if each["from_step"] >= step]
    for each in (*undone, changed):
        for key, (before, after) in each.items():
            merged[key] = [merged[key][0] if key in merged else before, after]
    merged = {key: pair for key, pair in merged.items() if pair[0] != pair[1]}
    if merged:
        kept.append({"from_step": step, "changed": merged})
    if data:
        kept[-1]["data"] = data
    return kept


def describe(segments: Sequence[Mapping[str, Any]]) -> str:
    """Returns what has changed on the way, in words; "" if nothing has."""
    return "; ".join(
        f"from step {each['from_step']:,} "
        + ", ".join(f"{k} {a} -> {b}" for k, (a, b) in each["changed"].items())
        for each in segments
        if each.get("changed")
    )


def _is_fixed(key: str) -> bool:
    if key in _FIXED_TOO:
        return True
    known = ("seed", "task.", "input.", "model.")
    return key.startswith(known) and not key.startswith(_RECORDED)


def _differs(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    parts = key.split(".")
    if key.startswith(_FREE) or (len(parts) > 2 and parts[-1] in _PLACES):
        return False
    # A dataset that only one of the configs knows is read by neither: they agree in
    # config.task.name.
    section = f"input.{parts[1]}." if key.startswith("input.") and parts[2:] else ""
    known = (any(k.startswith(section) for k in each) for each in (before, after))
    if key not in DEFAULTS and not all(known):
        return False
    there, here = (each.get(key, DEFAULTS.get(key)) for each in (before, after))
    return there != here


def _as_read(config) -> Any:
    """A config as config.json would give it back."""
    return ml_collections.ConfigDict(json.loads(config.to_json_best_effort()))


def _flat(config, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in config.items():
        if prefix + key == workdirs.SEGMENTS:
            continue
        if isinstance(value, ml_collections.ConfigDict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
