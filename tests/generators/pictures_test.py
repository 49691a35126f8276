"""A generator is trained on prompts as it will be given them."""

import numpy as np
import pytest
from PIL import Image

import configs.muse_scenes
from rahf import images
from rahf.applications import weighting
from rahf.generators.muse.generator import MuseGenerator
from rahf.generators.muse.learner import token_weights
from rahf.input.loader import make_eval_batches


def test_a_prompt_is_read_as_it_was_in_training():
    config = configs.muse_scenes.get_config()
    batches = make_eval_batches(
        config, split="dev", targets=config.task.targets, batch_size=8, examples=8
    )
    [(batch, infos)] = batches
    generator = MuseGenerator(config, params={})
    read = [generator._text(info["prompt"]) for info in infos]
    np.testing.assert_array_equal(batch["inputs"], read)


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """Two images, one of them with weights."""
    heatmap = np.zeros((64, 64), np.float32)
    heatmap[:30, 20:] = np.linspace(0, 1, 44)
    images.write_heatmap(tmp_path / "weights.png", 1 - heatmap)
    for name in ("a", "b"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "a red cat", "loss_weights": "weights.png"}\n'
        '{"file_name": "b.png", "text": "a blue cat"}\n'
    )
    return tmp_path, heatmap


def _batch(folder):
    config = configs.muse_scenes.get_config("folder")
    config.input.captions.train = str(folder)
    batches = make_eval_batches(
        config, split="train", targets=config.task.targets, batch_size=2
    )
    [(batch, infos)] = batches
    return batch, infos


def test_a_folder_gives_prompts_and_weights(folder):
    folder, heatmap = folder
    batch, infos = _batch(folder)
    assert [info["prompt"] for info in infos] == ["a red cat", "a blue cat"]
    assert batch["weights"]["loss_weights"].tolist() == [1, 0]
    found = np.asarray(token_weights(batch, 16))
    # As applications/weighting makes them, but for the 8 bits of the picture.
    wanted = weighting.weights(heatmap, (16, 16))
    np.testing.assert_allclose(found[0], wanted, atol=0.005)
    np.testing.assert_array_equal(found[1], 1)


def test_weights_of_nothing_are_all_one(folder):
    folder, _ = folder
    images.write_heatmap(folder / "weights.png", np.zeros((64, 64)))
    batch, _ = _batch(folder)
    np.testing.assert_array_equal(token_weights(batch, 8), 1)
    assert np.shape(token_weights({"targets": {}}, 8)) == (1, 1, 1)
