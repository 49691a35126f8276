"""A checkpoint says what it has learned from, and warns who would ask too much."""

import json

import pytest

from rahf.checkpoints import provenance
from rahf.checkpoints import workdir as workdirs
from tests.support import tiny


def _config(task="scenes_multihead", **fields):
    config = tiny.config()
    with config.unlocked():
        config.task.name = task
        config.update(fields)
    return config


def _write(folder, config, learned):
    segments = [{"from_step": 0, provenance.KEY: learned}]
    folder.mkdir(parents=True)
    workdirs.write_config(folder, config, segments)
    return workdirs.read_config(folder)


def test_a_run_begins_with_what_its_start_has_learned_from(tmp_path):
    first = _config()
    learned = provenance.make(first, 100)
    assert learned == {
        "data": [{"dataset": "scenes", "task": "scenes_multihead", "records": 100}],
        "weights": [],
    }
    read = _write(tmp_path / "a", first, learned)
    assert provenance.read(read) == learned
    assert provenance.describe(read) == "scenes, drawn pictures (100 records)"
    for start in (tmp_path / "a", tmp_path / "a" / "checkpoints" / "3"):
        second = _config("rated_images_multihead", init_from=str(start))
        found = provenance.make(second, None)
        assert [each["dataset"] for each in found["data"]] == ["scenes", "rated_images"]
    read = _write(tmp_path / "b", second, found)
    assert "drawn pictures (100 records); rated_images" in provenance.describe(read)
    again = provenance.make(_config(init_from=str(tmp_path / "a")), 100)
    assert again == learned  # the same data is named once


def test_weights_of_others_are_named_with_their_licence(tmp_path):
    config = _config()
    config.model.vit.stem = "efficientnet_lite0"
    [named] = provenance.make(config, 1)["weights"]
    assert named.startswith("efficientnet-lite0") and "Apache-2.0" in named
    imported = _config(imported={"vit": "B_16.npz"})
    (tmp_path / "w").mkdir()
    workdirs.write_config(tmp_path / "w", imported)
    found = provenance.make(_config(init_from=str(tmp_path / "w")), 1)
    assert found["weights"] == ["vit: B_16.npz"]


@pytest.mark.parametrize(
    ("task", "warns"),
    [
        ("scenes_seven", True),
        ("rated_images_multihead", False),
        ("consolidated_multihead", False),
        ("my_own", False),
    ],
)
def test_who_has_seen_drawings_alone_says_so(task, warns):
    """Older workdirs, too, which only have the task."""
    assert bool(provenance.warning(_config(task))) == warns


def test_a_run_writes_it_and_keeps_it(tmp_path):
    config = _config()
    read = _write(tmp_path / "a", config, provenance.make(config, 7))
    workdirs.rewrite_config(tmp_path / "a", read, read.segments)
    text = json.loads((tmp_path / "a" / workdirs.CONFIG_FILE).read_text())
    assert text["segments"][0][provenance.KEY]["data"][0]["records"] == 7
