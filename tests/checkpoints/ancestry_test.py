"""What a run and its forebears learned from, by their configs alone."""

import configs.muse_scenes
from rahf.checkpoints import ancestry, workdir


def _run(folder, start, images):
    config = configs.muse_scenes.get_config("folder")
    config.init_from, config.input.captions.train = str(start), images
    folder.mkdir()
    workdir.write_config(folder, config)
    return config


def test_forebears_are_followed(tmp_path):
    base = configs.muse_scenes.get_config()
    base.init_from = str(tmp_path / "gone")
    (tmp_path / "base").mkdir()
    workdir.write_config(tmp_path / "base", base)
    assert ancestry.image_sources(base) == []
    _run(tmp_path / "one", tmp_path / "base", "first/images")
    step = tmp_path / "one" / "checkpoints" / "200"
    (step / "state").mkdir(parents=True)
    two = _run(tmp_path / "two", step, "second/images")
    assert ancestry.image_sources(two) == ["second/images", "first/images"]


def test_a_run_that_names_itself_ends(tmp_path):
    config = _run(tmp_path / "one", tmp_path / "one", "images")
    assert ancestry.image_sources(config) == ["images"]
