"""What a resumed run may change, and how changes are recorded.

A workdir's config.json has "segments": a list with one entry for the start and one for
each resumption with another config, such as

    {"from_step": 2000, "data": "9f3c...", "changed": {"input.batch_size": [32, 64]}}

`data` is the digest of the training data, if the dataset provides one.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rahf.checkpoints import workdir as workdirs

#: The values of keys that older configs do not have.
DEFAULTS: dict[str, Any] = {
    "model.decoding": "constrained",
    "model.word_presence": False,
    "model.prompted": [],
    "model.scan_layers": False,
    "model.remat_policy": "full",
    "model.vit.class_token": True,
    "model.vit.stem": "patch",
    "model.vit.stem_statistics": "frozen",
    "model.vit.stem_output": "patches",
    "model.vit.exact_gelu": False,
    "model.vit.norm_epsilon": 1e-6,
    "model.vit.layer_scale": False,
    "model.vit.registers": 0,
    "model.vit.swiglu": False,
    "input.prompts": "whole",
    "input.augment.crop": 1.0,
    "input.augment.flip": False,
    "input.augment.colour": 0.0,
    "input.rated_images.cut": "rank",  # from before groups were hashed
    "optimizer.skip_nonfinite": 0,
    "optimizer.stem_rate": 1.0,
}
#: How and where a run computes, measures and saves; does not affect what is learned.
_FREE = (
    "sharding.",
    "eval.",
    "checkpoint.",
    "log.",
    "init_",
    "task.modules",
    "input.vocabulary",  # its bytes are compared, not its path
    "input.workers",  # checked by the input itself
    "input.cache",
    "input.bad_",
    "model.remat",
    "model.scan_layers",
    "model.decoding",
)
#: Last parts of the keys that locate data, which is compared by its digest.
_PATHS = ("path", "folder", "data_dir", "train", "dev", "test")
#: What may change during a run, and is then recorded. No other keys may.
_RECORDED = (
    "training_steps",
    "schedule.",
    "optimizer.",
    "loss_weights.",
    "preference.",
    "input.batch_size",
    "input.augment.",
    "input.text_length",
    "input.target_length",
    "model.dropout",
    "model.dtype",
)
_FIXED_TOO = ("optimizer.name",)


def check_no_import(workdir: str | os.PathLike, config) -> None:
    """Raises ValueError if a workdir holds imported weights."""
    if "imported" in config:
        raise ValueError(
            f"{workdir} holds imported weights, not a run; start one from them with "
            f"--config.init_from={workdir} and another --workdir"
        )


def compare(workdir: str | os.PathLike, config) -> dict[str, list[Any]]:
    """Compares a config with the one that a workdir was trained with.

    Args:
      workdir: a workdir with config.json.
      config: the config to resume with.

    Returns:
      The permitted changes, {key: [before, after]}.

    Raises:
      ValueError: something that may not change differs: what shapes the parameters,
        the seed, the task, its data or the part of it that is held out.
    """
    old = workdirs.read_config(workdir)
    check_no_import(workdir, old)
    before, after = flatten(old), flatten(config)
    changed = {
        key: [each.get(key, DEFAULTS.get(key)) for each in (before, after)]
        for key in sorted(before.keys() | after.keys())
        if _differs(key, before, after)
    }
    refused = {key: pair for key, pair in changed.items() if _is_fixed(key)}
    if refused:
        listed = "; ".join(
            f"config.{key}: was {there!r}, now {here!r}"
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
    """Returns the segments of a resumed run.

    Args:
      segments: the segments in config.json, () for a new run.
      step: the step the run resumes from; segments that began there or later, and
        reached no checkpoint, are merged into one.
      changed: the changes from `compare`.
      data: the digest of the training data, if known.

    Raises:
      ValueError: the data is not that of the earlier segments.
    """
    first, *rest = [dict(each) for each in segments] or [{"from_step": 0}]
    kept = [first, *(each for each in rest if each["from_step"] < step)]
    known = [each["data"] for each in (first, *rest) if each.get("data")]
    if data and known and data != known[-1]:
        raise ValueError(
            f"the training data is not what the run was trained on until step {step} "
            f"(digest {data}, then {known[-1]}): rows or files were added, removed or "
            f"edited, and examples held out now may have been trained on. Restore the "
            f"data, or start another workdir with --config.init_from"
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
    """Returns a description of what changed during a run; "" if nothing did."""
    return "; ".join(
        f"from step {each['from_step']:,} "
        + ", ".join(f"{k} {a} -> {b}" for k, (a, b) in each["changed"].items())
        for each in segments
        if each.get("changed")
    )


def flatten(config) -> dict[str, Any]:
    """Returns {"input.batch_size": 32}, with values as config.json would have them."""
    return _flat(json.loads(config.to_json_best_effort()))


def is_path(key: str) -> bool:
    """Whether a flat key of a config locates data."""
    parts = key.split(".")
    return len(parts) > 2 and parts[-1] in _PATHS


def _is_fixed(key: str) -> bool:
    if key in _FIXED_TOO:
        return True
    known = ("seed", "task.", "input.", "model.")
    return key.startswith(known) and not key.startswith(_RECORDED)


def _differs(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    if key.startswith(_FREE) or is_path(key):
        return False
    # A dataset that only one of the configs has is read by neither, as config.task.name
    # is the same.
    parts = key.split(".")
    section = f"input.{parts[1]}." if key.startswith("input.") and parts[2:] else ""
    known = (any(k.startswith(section) for k in each) for each in (before, after))
    if key not in DEFAULTS and not all(known):
        return False
    there, here = (each.get(key, DEFAULTS.get(key)) for each in (before, after))
    return there != here


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in config.items():
        if prefix + key == workdirs.SEGMENTS:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
