"""What an image is found to show: by hand, in the model, and what it is taught by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rahf import targets
from rahf.data import features, vocabulary
from rahf.data.scenes import Scenes, oracle
from rahf.evaluation.pieces_metrics import PiecesMetrics
from rahf.models.rahf import make_model
from rahf.models.word_evidence import evidence
from rahf.training import losses, steps
from tests import tiny


def test_evidence_by_hand():
    """One image token of two is the piece itself, in another length."""
    patches = np.array([[[3.0, 3.0, 3.0, 3.0], [1.0, -1.0, 1.0, -1.0]]])
    pieces = np.array([[[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]]])
    # Similarities are 2 * 4 / sqrt(4) = 4 and 0 for the first, 0 and 0 for the other.
    expected = [[np.log((np.exp(4) + 1) / 2), 0.0]]
    np.testing.assert_allclose(evidence(patches, pieces), expected, atol=1e-5)
    np.testing.assert_allclose(evidence(patches, pieces[0]), expected, atol=1e-5)


def test_pieces_loss_by_hand():
    logits = jnp.zeros((1, 5)).at[0, 3].set(2.0).at[0, 0].set(50.0)
    # Of pieces 2, 3 and 4 the caption has 3, twice; 0 and 1 are no pieces.
    loss = losses.pieces_loss(logits, jnp.array([[3, 3, 1, 0]]))
    expected = np.log1p(np.exp(-2.0)) + 2 * np.log(2.0)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_pieces_metrics_by_hand():
    metrics = PiecesMetrics.empty(targets.get("shown_words"))
    prediction = np.array([[0.9, 0.9, 0.8, 0.3, 0.6], [0.0, 0.0, 0.1, 0.2, 0.3]])
    metrics.update(prediction, np.array([[2, 3, 1, 0], [1, 0, 0, 0]]))
    # Among 0.9, 0.9, 0.8, 0.6, 0.3 the right ones are the third and the fifth.
    assert metrics.compute() == {
        "average_precision_mean": pytest.approx((1 / 3 + 2 / 5) / 2),
        "n": 2,
    }


def test_a_faithful_scene_shows_its_prompt():
    faithful = Scenes("train", 64, difficulty="simple", faithful=True)
    flawed = Scenes("train", 64, difficulty="simple")
    records = [faithful[i] for i in range(30)]
    for record in records:
        truth = oracle(record)
        assert truth["alignment"] == 1 and truth["misaligned_words"].all()
    assert any(record["scene"]["implausibility"] for record in records)
    assert any(oracle(flawed[i])["alignment"] < 1 for i in range(9))
    assert len({record["uid"] for record in records} | {flawed[0]["uid"]}) == 31


def test_the_pieces_of_a_caption_are_asked_without_the_prompt():
    pieces = vocabulary.load("scenes")
    record = {"uid": "1", "image": np.zeros((64, 64, 3), np.uint8), "prompt": "a red"}
    lengths = {"image_size": 32, "text_length": 24, "target_length": 24}
    asked = features.ask(
        record, ["shown_words"], vocabulary=pieces, augment=True, **lengths
    )
    row = targets.get("shown_words")
    assert asked["target_names"].tolist() == ["shown_words"]
    assert asked["targets"].tolist() == [*pieces.encode("a red"), 1]
    assert asked["inputs"].tolist() == [*pieces.encode(row.prompt), 1]


def _with_pieces():
    config = tiny.config()
    config.task.targets = (*config.task.targets, "shown_words")
    config.model.word_evidence = True
    return config


def test_the_option_is_needed():
    config = _with_pieces()
    config.model.word_evidence = False
    with pytest.raises(ValueError, match=r"shown_words, which needs config\.model\.wo"):
        make_model(config)


def test_captions_teach_what_prompts_are_told():
    """The loss of pieces alone reaches the ViT and the embeddings; and the model's
    other outputs depend on the evidence."""
    config = _with_pieces()
    model, batch = make_model(config), tiny.batch(config)
    init = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), batch)))
    params = init()["params"]

    @jax.jit
    @jax.grad
    def gradient(params):
        outputs = model.apply({"params": params}, batch)
        truth = batch["targets"]["shown_words"]
        return losses.pieces_loss(outputs["shown_words"], truth).mean()

    found = gradient(params)
    reached = {
        "/".join(str(key.key) for key in path[:2])
        for path, value in jax.tree_util.tree_leaves_with_path(found)
        if np.abs(value).max() > 0
    }
    assert {"vit/embedding", "t5/token_embedder", "word_evidence/bias"} <= reached
    assert not any(name.startswith("t5/encoder") for name in reached)

    predict = steps.make_predict_step(config, (5,))
    whole = predict(params, batch)
    assert whole["shown_words"].shape == (8, 512)
    params["word_evidence"]["direction"] *= 0
    without = predict(params, batch)
    for name in ("implausibility", "overall", "misaligned_words"):
        assert np.abs(whole[name] - without[name]).max() > 1e-6, name
