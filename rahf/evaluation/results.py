"""What a report shows of a workdir: facts about the run, and its saved results."""

import pathlib
from typing import Any

import jax

from rahf import storage, targets
from rahf.checkpoints import changes, provenance, sessions
from rahf.evaluation.evaluate import Results
from rahf.models.vit_stem import NETWORKS


def results_folder(workdir: str | pathlib.Path, split: str) -> pathlib.Path:
    """Returns the folder that the eval binaries write to."""
    return storage.place(workdir) / "eval" / split


def read_results(folder: pathlib.Path, **facts: Any) -> Results:
    """Joins those results in a folder that match the given facts.

    Args:
      folder: the folder of the `<name>.json` files that `Results.write` wrote.
      **facts: the values to match, such as step=6000, convention="rahf".

    Returns:
      Results without rows, targets in the table's order; without metrics if no file
      matches.
    """
    joined = Results(metrics={}, facts=dict(facts))
    unmeasured, bad = {}, 0
    beside: dict[str, dict] = {"trivial": {}, "not_beaten": {}}
    for path in sorted(folder.glob("*.json")):
        found = Results.read(path)
        about = found.facts | {"convention": found.convention}
        if all(about.get(key) == value for key, value in facts.items()):
            joined.metrics |= found.metrics
            joined.convention = found.convention
            unmeasured |= found.facts.get("not_measured", {})
            for key, held in beside.items():
                held |= found.facts.get(key, {})
            bad = max(bad, found.facts.get("bad_records", 0))
    joined.metrics = targets.ordered(joined.metrics)
    joined.facts |= {"not_measured": unmeasured, "bad_records": bad} | beside
    return joined


def describe(workdir: str | pathlib.Path, config, params, step: int) -> dict[str, str]:
    """Returns facts about a run, label -> text, for the head of a report."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    facts = {
        **sessions.describe(config),
        "Learned from": provenance.describe(config),
        "Task": config.task.name,
        "Model": _describe_model(config.model),
        "Parameters": f"{count:,}",
        "Image size": f"{config.input.image_size} px",
        "Trained for": f"{step:,} of {config.training_steps:,} steps",
        "Batch size": f"{config.input.batch_size}",
        "Seed": f"{config.seed}",
        "Checkpoint": f"{workdir}",
    }
    changed = changes.describe(config.get("segments", ()))
    return facts | ({"Changed on the way": changed} if changed else {})


def _describe_model(model) -> str:
    """Returns the networks of a run, each by the name of its size, or its width."""
    if "vit" not in model:  # a CLIP
        image, text = model.image, model.text
        return f"CLIP, ViT {image.width}/{model.patch_size}, text {text.width}"
    vit, t5 = model.vit, model.t5
    parts = [model.variant]
    if (stem := vit.get("stem", "patch")) in NETWORKS:
        parts.append(stem)
    if vit.get("depth") != 0:
        parts.append(f"ViT {vit.get('size') or vit.get('width')}/{vit.patch_size}")
    if model.variant != "image":
        parts.append(f"T5 {t5.get('size') or t5.get('embed_dim')}")
    return ", ".join(parts)
