"""What an image is found to show: by hand, in the model, and what it is taught by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf import targets
from rahf.evaluation.metrics.word_presence import WordPresenceMetrics
from rahf.inference.predict_step import make_predict_step
from rahf.input import features, vocabulary
from rahf.input.converter import Converter
from rahf.models.rahf import make_model
from rahf.models.word_presence import presence
from rahf.training import losses
from tests.support import tiny

V = vocabulary.load("scenes")


def test_presence_by_hand():
    """One image token of two is the piece itself, in another length."""
    patches = np.array([[[3.0, 3.0, 3.0, 3.0], [1.0, -1.0, 1.0, -1.0]]])
    pieces = np.array([[[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]]])
    # Similarities are 2 * 4 / sqrt(4) = 4 and 0 for the first, 0 and 0 for the other.
    expected = [[np.log((np.exp(4) + 1) / 2), 0.0]]
    np.testing.assert_allclose(presence(patches, pieces), expected, atol=1e-5)
    np.testing.assert_allclose(presence(patches, pieces[0]), expected, atol=1e-5)


def test_word_presence_loss_by_hand():
    logits = jnp.tile(jnp.array([50.0, 0.0, 0.0, 2.0, 1.0, 0.0]), (3, 1))
    tokens = jnp.array([[3, 3, 1, 0], [3, -4, 1, 0], [3, -3, -4, 1]])
    # 0 and 1 are no pieces. The first image shows 3 and none of 2, 4 and 5; the second
    # shows 3 and not 4, and of 2 and 5 nothing is known; 3 is shown once in the third.
    shown, absent = np.log1p(np.exp(-2.0)), np.log1p(np.exp(1.0))  # 3, and 4
    both = shown + absent
    expected = [both + 2 * np.log(2.0), both, both]
    np.testing.assert_allclose(
        losses.word_presence_loss(logits, tokens), expected, rtol=1e-6
    )


def test_pieces_metrics_by_hand():
    metrics = WordPresenceMetrics.empty(targets.get("word_presence"))
    prediction = np.array([[0.9, 0.9, 0.8, 0.3, 0.6]] * 3)
    metrics.update(prediction, np.array([[2, 3, 1, 0], [1, 0, 0, 0], [2, -3, 1, 0]]))
    # Among 0.9, 0.9, 0.8, 0.6, 0.3 the right ones are the third and the fifth; the other
    # images have no prompt, or do not show it.
    assert metrics.compute() == {
        "average_precision_mean": pytest.approx((1 / 3 + 2 / 5) / 2),
        "n": 3,
        "n_whole": 1,
    }


PROMPT = 'a red fish, one "rainbowish" star'
RECORD = {
    "uid": "1",
    "image": np.zeros((64, 64, 3), np.uint8),
    "prompt": PROMPT,
    "prompt_misalignment_label": np.array([1, 0, 1, 1, 0, 1], np.int8),
}


def _batch(names, record):
    lengths = {"image_size": 32, "text_length": 48, "target_length": 48}
    maker = features.FeatureMaker(vocabulary=V, **lengths)
    asked = maker.make(record, names, augment=len(names) == 1)
    return Converter(targets=tuple(names), **lengths)([asked])


@pytest.mark.parametrize(
    "names", [("word_presence",), ("word_presence", "misaligned_words")]
)
def test_the_pieces_of_misaligned_words_are_negative(names):
    batch = _batch(names, RECORD)
    tokens = batch["targets"]["word_presence"][0]
    assert batch["weights"]["word_presence"] == 1
    assert V.decode(abs(tokens[tokens != 0])) == PROMPT
    misaligned = V.decode(-tokens[tokens < 0])
    assert misaligned.split() == ["red", '"rainbowish']  # of several pieces
    assert tokens[tokens != 0][-1] == 1

    shows = RECORD | {"prompt_misalignment_label": np.ones(6, np.int8)}
    assert (_batch(names, shows)["targets"]["word_presence"] >= 0).all()
    unknown = RECORD | {"prompt_misalignment_label": np.full(6, -1, np.int8)}
    assert _batch(names, unknown)["weights"]["word_presence"] == 0


def _with_pieces():
    config = tiny.config()
    config.task.targets = (*config.task.targets, "word_presence")
    config.model.word_presence = True
    return config


def test_the_option_is_needed():
    config = _with_pieces()
    config.model.word_presence = False
    with pytest.raises(
        ValueError, match=r"word_presence, which needs config\.model\.wo"
    ):
        make_model(config)


def test_pieces_teach_what_prompts_are_told():
    """The loss of pieces alone reaches the ViT and the embeddings; and the model's
    other outputs depend on word presence."""
    config = _with_pieces()
    model, batch = make_model(config), tiny.batch(config)
    params = tiny.params(config)

    @jax.jit
    @jax.grad
    def gradient(params):
        outputs = model.apply({"params": params}, batch)
        truth = batch["targets"]["word_presence"]
        return losses.word_presence_loss(outputs["word_presence"], truth).mean()

    found = gradient(params)
    reached = {
        "/".join(str(key.key) for key in path[:2])
        for path, value in jax.tree_util.tree_leaves_with_path(found)
        if np.abs(value).max() > 0
    }
    assert {"vit/embedding", "t5/token_embedder", "word_evidence/bias"} <= reached
    assert not any(name.startswith("t5/encoder") for name in reached)

    predict = make_predict_step(config, (5,))
    whole = predict(params, batch)
    assert whole["word_presence"].shape == (8, 512)
    params["word_evidence"]["direction"] *= 0
    without = predict(params, batch)
    for name in ("implausibility", "overall", "misaligned_words"):
        assert np.abs(whole[name] - without[name]).max() > 1e-6, name
