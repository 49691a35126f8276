"""How far images are from the training images: a tiny, untrained model behind it."""

import numpy as np
import pytest

import rahf
from rahf.checkpoints import feature_distance
from rahf.datasets.scenes import Scenes
from rahf.export import folder as export_folder
from rahf.inference import training_images
from tests.support import tiny


@pytest.fixture(scope="module", params=["multihead", "augmented"])
def workdir(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = tiny.config(request.param)
    config.input.scenes.difficulty = "simple"
    config.input.image_size = 64  # scenes are not drawn smaller
    tiny.write_workdir(folder, config, step=3)
    assert "features of 160 training" in training_images.summarise(folder, images=160)
    return folder


def test_noise_is_far_and_scenes_are_not(workdir):
    scenes = Scenes("test", 64, difficulty="simple")
    drawn = [scenes[i]["image"] for i in range(40)]
    noise = np.random.default_rng(0).integers(0, 2, (4, 64, 64, 3), np.uint8)
    found = rahf.load(workdir).predict([*drawn, *(255 * noise)], "a red circle")
    near, far = found[:40], found[40:]
    assert np.mean([each.distance > 99 for each in near]) < 0.15
    assert 20 < np.median([each.distance for each in near]) < 80
    assert min(each.distance for each in far) > 99


def test_nothing_else_changes(workdir, tmp_path):
    image, prompt = Scenes("test", 64)[0]["image"], "a red circle"
    [known] = rahf.load(workdir).predict([image], [prompt])
    plain = tiny.write_workdir(tmp_path, rahf.load(workdir).config, step=3)
    [unknown] = rahf.load(plain).predict([image], [prompt])
    assert unknown.distance is None
    for name, score in known.scores.items():
        assert abs(score - unknown.scores[name]) < 1e-5


def test_made_once_unless_asked(workdir):
    assert training_images.summarise(workdir, images=20, again=False) == ""


def test_an_export_takes_it_along(workdir, tmp_path):
    exported = export_folder.export(workdir, tmp_path / "e", form="safetensors")
    assert (exported / feature_distance.file_name(3)).exists()
    image = Scenes("test", 64)[1]["image"]
    one, other = (
        rahf.load(where).predict([image], ["a cat"])[0] for where in (workdir, exported)
    )
    assert one.distance is not None
    assert one.distance == other.distance


def test_no_more_images_than_there_are(tmp_path):
    config = tiny.config()
    config.input.update(image_size=64)
    config.input.scenes.train_examples = 30
    tiny.write_workdir(tmp_path, config)
    line = training_images.summarise(tmp_path)
    assert "features of 30 training images" in line
    config.input.scenes.train_examples = 12
    tiny.write_workdir(tmp_path / "few", config)
    with pytest.raises(feature_distance.TooFewImagesError, match="got 12"):
        training_images.summarise(tmp_path / "few")
