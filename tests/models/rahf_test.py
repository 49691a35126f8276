"""The whole model: variants, masks, what a prediction may depend on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import scenes
from rahf.inference.predict_step import make_predict_step
from rahf.models import decoding, resnet
from rahf.models.rahf import RAHF, make_model
from tests.models.resnet_test import SMALL
from tests.support import tiny


def _run(config):
    """The model as one program: (params, batch) -> outputs."""
    model = make_model(config)
    return jax.jit(lambda params, batch: model.apply({"params": params}, batch))


def _one_of_each_kind(variant="multihead"):
    config = tiny.config(variant)
    config.task.targets = ("implausibility", "overall", "misaligned_words")
    return config


@pytest.mark.parametrize("variant", ["multihead", "augmented"])
def test_outputs_by_target_name(variant):
    config = tiny.config(variant)
    batch, params = tiny.batch(config), tiny.params(config)
    outputs = _run(config)(params, batch)
    assert set(outputs) == set(scenes.TARGETS)
    assert outputs["implausibility"].shape == (8, 32, 32)
    assert outputs["overall"].shape == (8,)
    assert outputs["misaligned_words"].shape == (8, 36, 512)
    heads = [name for name in params if name.startswith("score_predictor")]
    assert len(heads) == (4 if variant == "multihead" else 1)
    shared = (outputs["overall"] == outputs["plausibility"]).all()
    assert shared == (variant == "augmented")


@pytest.mark.parametrize("variant", ["multihead", "augmented"])
def test_a_prediction_depends_on_its_own_example_alone(variant):
    """Not on batch neighbours, and not on how much padding follows its text."""
    config = _one_of_each_kind(variant)
    batch, params = tiny.batch(config), tiny.params(config)
    whole = make_predict_step(config, (5,))(params, batch)
    alone = tiny.take(batch, slice(2, 3))
    short = _one_of_each_kind(variant)
    short.input.text_length = 16
    short.input.target_length = 16
    trim = {key: alone[key][:, :16] for key in ("inputs", "prompt", "word_ends")}
    for c, part in ((config, alone), (short, alone | trim)):
        outputs = make_predict_step(c, (5,))(params, part)
        for name, value in outputs.items():
            expected = whole[name][2:3]
            if name == "misaligned_words":
                expected = expected[:, : value.shape[1]]
            np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=name)


def test_prompt_and_image_reach_every_output():
    config = tiny.config()
    batch, params = tiny.batch(config), tiny.params(config)
    run = _run(config)
    first = run(params, batch)
    others = (
        batch | {"image": 255 - batch["image"]},
        batch | {"inputs": np.where(batch["inputs"] > 1, 7, batch["inputs"])},
    )
    for other in others:
        for name, value in run(params, other).items():
            assert np.abs(value - first[name]).max() > 1e-4, name


def test_decoder_may_attend_to_the_prompt_alone():
    config = tiny.config()
    config.model.decoder_attends = "prompt"
    model, params, batch = make_model(config), tiny.params(config), tiny.batch(config)
    variables = {"params": params}

    def encode(image, inputs):
        tokens = model.apply(variables, image, method=RAHF.encode_image)
        encoding = model.apply(variables, tokens, inputs, method=RAHF.encode)
        return dataclasses.asdict(encoding)

    encoding = decoding.Encoding(**jax.jit(encode)(batch["image"], batch["inputs"]))
    assert encoding.memory.shape[1] == config.input.text_length
    np.testing.assert_array_equal(encoding.memory_mask, batch["inputs"] != 0)
    assert encoding.feature_map.shape == (8, 2, 2, 64)


def test_options_are_named_in_errors():
    config = tiny.config()
    config.model.variant = "both"
    with pytest.raises(ValueError, match="config.model.variant='both'.*'augmented'"):
        make_model(config)
    config.model.update(variant="augmented", remat_policy="most")
    with pytest.raises(ValueError, match="remat_policy='most'; known: 'full', 'dots'"):
        make_model(config)
    config = make_model(tiny.config()).config
    with pytest.raises(ValueError, match="unknown target 'mood'.*plausibility"):
        dataclasses.replace(config, targets=("mood",))


def test_bfloat16_outputs_are_float32_and_close():
    config = _one_of_each_kind()
    batch, params = tiny.batch(config), tiny.params(config)
    exact = _run(config)(params, batch)
    config.model.dtype = "bfloat16"
    rough = _run(config)(params, batch)
    for name in exact:
        assert rough[name].dtype == jnp.float32, name
    np.testing.assert_allclose(rough["overall"], exact["overall"], atol=0.05)


def test_a_teachers_words_are_read_by_the_decoder_like_labels():
    config = _one_of_each_kind()
    batch, params = tiny.batch(config), tiny.params(config)
    expected = _run(config)(params, batch)["misaligned_words"]
    config.task.targets = (*config.task.targets, "soft_words")
    text = batch["targets"]["misaligned_words"]
    nothing = np.zeros(8, np.float32)
    soft = np.stack([text, text, 0 * text], axis=-1).astype(np.float32)
    batch["targets"] |= {"soft_words": soft, "misaligned_words": 0 * text}
    batch["weights"] |= {"soft_words": nothing + 1, "misaligned_words": nothing}
    outputs = _run(config)(params, batch)
    np.testing.assert_allclose(outputs["soft_words"], expected, rtol=1e-5, atol=1e-5)


def _image_alone():
    """configs/baseline_resnet50.py, shrunk; with `small` ResNets."""
    config = tiny.config()
    config.task.name = "scenes_without_words"
    config.task.targets = scenes.TARGETS[:-1]
    config.input.prompts = "none"
    config.model.variant = "image"
    config.model.vit.update(stem="resnet50", depth=0, class_token=False, patch_size=8)
    config.init_stem = ""
    return config


def test_the_baseline_reads_the_image_alone(monkeypatch):
    monkeypatch.setitem(resnet.VERSIONS, "resnet50", SMALL["resnet50"])
    config = _image_alone()
    batch, params = tiny.batch(config), tiny.params(config)
    assert "t5" not in params
    assert sum(name.startswith("score_predictor_") for name in params) == 4
    run = _run(config)
    outputs = run(params, batch)
    assert set(outputs) == set(config.task.targets)
    assert outputs["misalignment"].shape == (8, 32, 32)
    other = run(params, batch | {"inputs": batch["inputs"][::-1]})
    for name, value in outputs.items():
        np.testing.assert_array_equal(other[name], value)
    mirrored = run(params, batch | {"image": batch["image"][::-1]})
    assert (mirrored["overall"] != outputs["overall"]).any()
    config.task.targets = scenes.TARGETS
    with pytest.raises(ValueError, match="reads no prompt, so it has no misaligned_wo"):
        make_model(config)
