"""A CLIP that is fine-tuned for one score."""

import contextlib
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

import rahf
from rahf.bin import eval_scores, training_run
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import Checkpointer
from rahf.models.clip import Clip
from rahf.training.feedback import make_learner
from tests.support import tiny, tiny_clip_run


def test_the_loss_by_hand():
    config = tiny_clip_run.config("overall")
    config.task.weights = {}
    learner = make_learner(config)
    params = nn.unbox(learner.init(jax.random.key(0)))
    batch = tiny.batch(_like_tiny(config))
    batch["weights"]["overall"] = np.float32([1, 1, 0, 1, 0, 0, 0, 1])
    counts = learner.counts(batch)
    assert counts == {"overall": 4}
    loss, sums = learner.loss(params, batch, counts, None)
    pixels = batch["image"] / np.float32(127.5) - 1
    cosines = learner.model.apply(
        {"params": params}, pixels, batch["prompt"], method=Clip.cosines
    )
    errors = ((1 + np.asarray(cosines)) / 2 - batch["targets"]["overall"]) ** 2
    wanted = errors[[0, 1, 3, 7]]
    assert float(sums["overall"]) == pytest.approx(wanted.sum(), rel=1e-4)
    assert float(loss) == pytest.approx(wanted.mean(), rel=1e-4)


def _like_tiny(config):
    c = tiny.config("augmented")
    c.task.targets = config.task.targets
    c.input.update(batch_size=8, image_size=64, target_length=24)
    return c


def test_it_starts_from_a_clip_and_is_measured_and_loaded_by_its_score(tmp_path):
    first = tiny_clip_run.config("")
    params = nn.unbox(make_learner(first).init(jax.random.key(3)))
    workdirs.write_config(tmp_path / "clip", first)
    with contextlib.closing(Checkpointer(tmp_path / "clip", first)) as saver:
        saver.save(1, {"params": params}, {}, {})
    config = tiny_clip_run.config("plausibility")
    config.init_from = str(tmp_path / "clip")
    training_run.run(config, tmp_path / "w")
    text = (tmp_path / "w/metrics.jsonl").read_text("utf-8")
    logged = {k: v for line in text.splitlines() for k, v in json.loads(line).items()}
    assert 0 < logged["train/loss/plausibility"] < 1
    predictor = rahf.load(tmp_path / "w")
    # A step or two away from where it started.
    moved = jax.tree.map(lambda a, b: abs(a - b).max(), predictor.params, params)
    assert 0 < max(jax.tree.leaves(moved)) < 0.05
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    [found] = predictor.predict([str(picture)], ["a red cat"])
    assert list(found.scores) == ["plausibility"] and not found.heatmaps
    eval_scores.main([f"--checkpoint={tmp_path}/w", "--split=dev", "--examples=6"])
    saved = json.loads((tmp_path / "w/eval/dev/scores.json").read_text())
    near = pytest.approx(logged["eval/plausibility/plcc"], abs=1e-3)
    assert saved["metrics"]["plausibility"]["plcc"] == near


@pytest.mark.parametrize("names", [("overall", "alignment"), ("misalignment",)])
def test_other_tasks_are_refused(names):
    config = tiny_clip_run.config("overall")
    config.task.targets = names
    with pytest.raises(ValueError, match="captions, or one score"):
        make_learner(config)
