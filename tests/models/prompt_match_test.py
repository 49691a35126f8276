"""A score that reads its prompt: from nothing at the start, and only where asked."""

import jax
import numpy as np
import pytest

from rahf.models import resnet
from rahf.models.rahf import RAHF, make_model
from tests.models.resnet_test import SMALL
from tests.support import tiny


@pytest.fixture
def config(monkeypatch):
    """configs/rated_images.py with pretrained eyes, which are a small ResNet here."""
    monkeypatch.setitem(resnet.VERSIONS, "resnet50", SMALL["resnet50"])
    c = tiny.config()
    c.task.name, c.task.targets = "rated_images_multihead", ("alignment", "overall")
    c.model.variant, c.model.score_head.name = "image", "linear"
    c.model.vit.update(stem="resnet50", stem_output="features", width=512)
    c.model.vit.update(depth=0, class_token=False, patch_size=32)
    with c.unlocked():
        c.model.prompted = ("alignment",)
    return c


def test_it_reads_the_prompt_where_asked_and_only_there(config):
    batch, params = tiny.batch(config), tiny.params(config)
    assert not {"t5", "visual_token_projection"} & set(params)
    model = make_model(config)
    run = jax.jit(lambda params, batch: model.apply({"params": params}, batch))
    said = run(params, batch)
    other = run(params, batch | {"inputs": batch["inputs"][::-1]})
    assert (said["alignment"] != other["alignment"]).any()
    np.testing.assert_array_equal(said["overall"], other["overall"])
    padded = np.pad(batch["inputs"], ((0, 0), (0, 4)))
    same = run(params, batch | {"inputs": padded})["alignment"]
    np.testing.assert_allclose(same, said["alignment"], rtol=1e-5)

    match = params["prompt_match"]
    fresh = match | {"image": {"kernel": np.zeros_like(match["image"]["kernel"])}}
    start = run(params | {"prompt_match": fresh}, batch)["alignment"]
    bare = run(params, batch | {"inputs": np.zeros_like(batch["inputs"])})["alignment"]
    np.testing.assert_array_equal(start, bare)  # an empty prompt says nothing


def test_prediction_and_training_agree(config):
    """Stages of prediction pass the text on as the whole model does."""
    batch, params = tiny.batch(config), tiny.params(config)
    bound = RAHF(make_model(config).config).bind({"params": params})
    encoding = bound.encode(bound.encode_image(batch["image"]), batch["inputs"])
    taken = bound.scores(encoding.take(np.array([3, 1])))
    for name, value in bound(batch).items():
        np.testing.assert_allclose(taken[name], value[np.array([3, 1])], rtol=1e-4)


def test_other_models_have_no_such_scores(config):
    config.model.score_head.name = "light"
    with pytest.raises(ValueError, match="config.model.prompted=.* linear heads"):
        make_model(config)
