"""Published CLIPs score and explain images as their formulas say."""

import functools
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import rahf
from rahf import words
from rahf.baselines import clip_maps
from rahf.baselines.clip_inputs import DEVIATION, MEAN
from rahf.inference.clip_predictor import ClipOptions
from rahf.models.clip import Clip
from rahf.weights import export_torch
from tests.parity import clip_reference as reference
from tests.support import tiny_clip

PROMPTS = ["a red boat", "a cat, left of it", "house"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("clip") / "w")


@pytest.fixture(scope="module")
def scorer(folder):
    return rahf.load_clip(folder)


def _pixels(image, crop):
    """By Pillow: the shorter side resized and the middle cut out, or all squeezed."""
    picture, side = Image.fromarray(image), tiny_clip.SIDE
    width, height = picture.size
    size = (side, side)
    if crop:
        size = (
            int(side * width / min(width, height)),
            int(side * height / min(width, height)),
        )
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((length - side) / 2) for length in picture.size)
    picture = picture.crop((left, top, left + side, top + side))
    return ((np.asarray(picture) / 255 - MEAN) / DEVIATION).astype(np.float32)


def _cosines(scorer, images):
    tokens = np.stack([scorer._inputs.encode(text).ids for text in PROMPTS])
    pixels = np.stack([_pixels(image, crop=True) for image in images])
    variables = {"params": scorer.params}
    found = jax.jit(functools.partial(scorer.model.apply, method=Clip.cosines))(
        variables, pixels, tokens
    )
    return np.asarray(found), tokens


def test_scores_follow_their_formulas(folder, scorer):
    images = tiny_clip.pictures()
    cosines, _ = _cosines(scorer, images)
    assert cosines.min() < 0 < cosines.max()
    near = {"atol": 1e-5, "rtol": 1e-5}
    got = scorer.score(images, PROMPTS)
    np.testing.assert_allclose(got, 2.5 * np.maximum(cosines, 0), **near)
    wanted = {"hpsv2": cosines, "pickscore": np.exp(2.5) * cosines}
    for name, values in wanted.items():
        other = rahf.load_clip(folder, score=name, maps=False)
        np.testing.assert_allclose(other.score(images, PROMPTS), values, **near)
        [first, *_] = other.predict(images, PROMPTS)
        assert first.scores.keys() == {name} and not first.heatmaps and not first.words


def test_predictions_hold_maps_of_the_whole_image_and_words(scorer):
    images = tiny_clip.pictures()
    predictions = scorer.predict(images, PROMPTS, batch_size=2)
    _, tokens = _cosines(scorer, images)
    wholes = np.stack([_pixels(image, crop=False) for image in images])
    explain = functools.partial(
        clip_maps.explain, scorer.model, choice=clip_maps.USUAL_MAP
    )
    _, maps, match = jax.jit(explain)(scorer.params, wholes, tokens)
    for row, (prediction, prompt) in enumerate(zip(predictions, PROMPTS, strict=True)):
        assert prediction.image_size == images[row].shape[:2]
        np.testing.assert_allclose(
            prediction.heatmaps["misalignment"], maps[row], atol=1e-4
        )
        assert [word.text for word in prediction.words] == words.split(prompt)
        each = scorer._inputs.encode(prompt).words
        totals = np.array([sum(match[row, i] for i in places) for places in each])
        wanted = 1 - totals / totals.max() if totals.max() > 0 else 0 * totals
        got = [word.probability for word in prediction.words]
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_long_prompts_are_cut(scorer):
    [prediction] = scorer.predict(tiny_clip.pictures((12, 12)), "boat " * 30)
    assert prediction.prompt_truncated
    assert 0 < len(prediction.words) < 30


def test_what_cannot_be_loaded(folder, tmp_path):
    state = reference.openai_weights()
    state["token_embedding.weight"] = tiny_clip.weights()[
        "text_model.embeddings.token_embedding.weight"
    ]
    path = tmp_path / "clip.pt"
    export_torch.write_state_dict(path, state)
    with pytest.raises(ValueError, match="bpe_simple_vocab_16e6.txt.gz"):
        rahf.load_clip(path)
    with pytest.raises(ValueError, match="does not tell its activation"):
        rahf.load_clip(path, folder)
    with pytest.raises(ValueError, match="expected one of clipscore"):
        rahf.load_clip(path, folder, "clip_score")
    # Made for a larger head, the small one has one; PickScore's weights are exact.
    options = ClipOptions(str(folder), "pickscore", image_heads=4, text_heads=3)
    found = rahf.load_clip(path, options=options)
    assert found.model.config.activation == "gelu"
    export_torch.write_state_dict(path, reference.openai_weights())
    with pytest.raises(ValueError, match="do not belong together"):
        rahf.load_clip(path, folder, "pickscore")
    assert pathlib.Path(folder).is_dir()
