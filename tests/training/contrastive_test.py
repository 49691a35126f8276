"""The learner of a CLIP: its loss by hand, and a run through the project's own loop."""

import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

import rahf
from rahf.baselines import clip_runs
from rahf.bin import score, training_run
from rahf.evaluation.split import SplitEvaluator
from rahf.export import folder
from rahf.input.loader import make_eval_batches
from rahf.training import contrastive
from rahf.training.feedback import make_learner
from tests.support import captions_fixture, tiny_clip_run

_ALIKE = [[5, 6, 1], [5, 7, 1], [5, 6, 1]]


def test_the_loss_of_pairs_by_hand():
    logits = np.float32([[2, 0, 9], [1, 3, -1], [9, 0, 1]])
    tokens, some = np.int32(_ALIKE), np.float32([1, 1, 0])
    # The third is no pair, and its text is the first's.
    images = [np.log(np.exp(2) + np.exp(0)) - 2, np.log(np.exp(1) + np.exp(3)) - 3]
    texts = [np.log(np.exp(2) + np.exp(1)) - 2, np.log(np.exp(0) + np.exp(3)) - 3]
    wanted = [(images[0] + texts[0]) / 2, (images[1] + texts[1]) / 2, 0]
    got = contrastive.pair_losses(logits, tokens, some)
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    # All three: texts that are equal are no negatives of each other.
    third = [np.log(np.exp(0) + np.exp(1)) - 1, np.log(np.exp(-1) + np.exp(1)) - 1]
    got = contrastive.pair_losses(logits, tokens, np.ones(3, np.float32))
    np.testing.assert_allclose(got[2], sum(third) / 2, atol=1e-6)
    np.testing.assert_allclose(got[0], wanted[0], atol=1e-6)


def test_retrieval_by_hand():
    images = np.float32([[1, 0], [0, 1], [0.6, 0.8]])
    texts = np.float32([[1, 0], [0, 1], [1, 0]])
    found = contrastive.retrieval(images, texts, _ALIKE)
    assert found == {
        "retrieval/image_to_text": pytest.approx(2 / 3),  # the last finds the second
        "retrieval/text_to_image": 1.0,  # the third text finds its equal's image
    }


def test_tokens_belong_to_the_word_that_ends_next():
    ends = np.int32([[0, 1, 1, 0, 0]])
    owners = np.asarray(clip_runs.owners_at_ends(ends))[0]
    assert owners[1].tolist() == [True, True, False, False, False]
    assert owners[2].tolist() == [False, False, True, False, False]
    assert not owners[[0, 3, 4]].any()


def test_a_run_is_trained_measured_and_loaded_like_any_other(tmp_path):
    config = tiny_clip_run.config()
    training_run.run(config, tmp_path / "w")
    text = (tmp_path / "w/metrics.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    logged = {name: value for row in rows for name, value in row.items()}
    assert 0 < logged["train/loss"] < 10
    assert {"eval/alignment/plcc", "eval/misalignment/cc"} <= logged.keys()
    predictor = rahf.load(tmp_path / "w")
    assert predictor.step == 2
    with pytest.raises(ValueError, match="got one of config.learner='clip'"):
        folder.export(tmp_path / "w", tmp_path / "export", form="safetensors")
    evaluator = SplitEvaluator(config)
    measured = evaluator(predictor.params, progress=False).flat()
    for name in ("alignment/plcc", "misalignment/cc"):
        assert measured[name] == pytest.approx(logged[f"eval/{name}"], abs=1e-3)
    # What is predicted of a picture is what was measured of it.
    [(batch, infos), *_] = make_eval_batches(
        evaluator._config, split="dev", targets=("alignment",), examples=2, batch_size=2
    )
    names = ("alignment", "misalignment", "misaligned_words")
    step = clip_runs.make_clip_predict_step(config, names)
    said = jax.device_get(step(predictor.params, batch))
    prompts = [info["prompt"] for info in infos]
    for row, got in enumerate(predictor.predict(list(batch["image"]), prompts)):
        near = {"atol": 1e-4}
        np.testing.assert_allclose(
            got.scores["alignment"], said["alignment"][row], **near
        )
        heatmap = got.heatmaps["misalignment"]
        np.testing.assert_allclose(heatmap, said["misalignment"][row], **near)
        at = batch["word_ends"][row] > 0
        wanted = said["misaligned_words"][row][at]
        words = [word.probability for word in got.words]
        np.testing.assert_allclose(words, wanted, **near)
    # It scores shards as any checkpoint does.
    tar = captions_fixture.write_shard(tmp_path / "a.tar", 0, 1)
    flags = [f"--checkpoint={tmp_path / 'w'}", f"--output={tmp_path / 'scored'}"]
    score.main([*flags, "--heatmaps=native", str(tar)])
    [file] = (tmp_path / "scored").glob("*.parquet")
    [row] = pq.read_table(file).to_pylist()
    assert row["error"] is None
    assert 0 <= row["alignment"] <= 1


def test_captions_alone_are_measured_by_retrieval():
    config = tiny_clip_run.config()
    config.task.targets, config.eval.task = ("caption",), ""
    learner = make_learner(config)
    params = learner.init(jax.random.key(0))
    params = jax.tree.map(
        lambda x: x.value, params, is_leaf=lambda x: hasattr(x, "value")
    )
    evaluate = learner.evaluator()
    found = evaluate(params)
    assert found.keys() == {"retrieval/image_to_text", "retrieval/text_to_image"}
    assert all(0 <= value <= 1 for value in found.values())


def test_a_clip_says_nothing_of_other_targets():
    config = tiny_clip_run.config()
    with pytest.raises(ValueError, match="not plausibility"):
        clip_runs.make_clip_predict_step(config, ("plausibility",))
