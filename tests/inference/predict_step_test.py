"""The jitted functions of prediction."""

import jax
import numpy as np
import pytest

from rahf.inference import predict_step
from rahf.models import passes
from rahf.models.rahf import RAHF, make_model
from tests.support import tiny

TARGETS = ("implausibility", "misalignment", "overall", "alignment", "misaligned_words")


def _prompts(config, batch):
    """Another prompt for each that asks for a target: int32[P, B, L]."""
    count = len(passes.targets_of_prompts(config, TARGETS))
    return np.stack([np.roll(batch["inputs"], i, axis=0) for i in range(count)])


@pytest.mark.parametrize("variant", ["multihead", "augmented"])
def test_prompts_in_one_pass_are_those_read_one_by_one(variant):
    config = tiny.config(variant)
    params, batch = tiny.params(config), tiny.batch(config)
    inputs = _prompts(config, batch)
    together = predict_step.make_predict_prompts(config, (5,), TARGETS)
    found = together(params, {**batch, "inputs": inputs})
    assert set(found) == set(TARGETS)
    tokens = jax.jit(
        lambda image: make_model(config).apply(
            {"params": params}, image, method=RAHF.encode_image
        )
    )(batch["image"])
    names_of = passes.targets_of_prompts(config, TARGETS)
    assert len(names_of) == (5 if variant == "augmented" else 1)
    programs = {
        program: predict_step.make_predict_step(config, (5,), program)
        for program in passes.targets_of_programs(config, TARGETS)
    }
    for names, own in zip(names_of, inputs, strict=True):
        [alone] = [step for program, step in programs.items() if names[0] in program]
        asked = {key: batch[key] for key in ("prompt", "word_ends")}
        expected = alone(params, asked | {"inputs": own, "image_tokens": tokens})
        for name in names:
            np.testing.assert_allclose(
                found[name], expected[name], atol=2e-5, err_msg=name
            )


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("head", ["paper", "light"])
def test_parameters_cast_once_change_nothing(head, gated):
    config = tiny.config("augmented")
    config.model.dtype = "bfloat16"
    config.model.word_presence = True
    config.model.vit.stem = "convolutions" if gated else "patch"
    config.model.t5.gated = gated
    for kind in ("heatmap_head", "score_head"):
        config.model[kind].name = head
    params, batch = tiny.params(config), tiny.batch(config)
    cast = predict_step.cast_params(params, "bfloat16")
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(cast)}
    assert dtypes == {"float32", "bfloat16"}
    run = jax.jit(lambda params: make_model(config).apply({"params": params}, batch))
    found, expected = run(cast), run(params)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_on_cpus_prediction_computes_in_float32():
    config = tiny.config()
    assert predict_step.compute_config(config) is config
    config.model.dtype = "bfloat16"
    config.lock()
    assert predict_step.compute_config(config).model.dtype == "float32"
    assert config.model.dtype == "bfloat16"
