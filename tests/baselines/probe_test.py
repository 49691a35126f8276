import numpy as np
import pytest

from rahf.baselines import probe
from rahf.baselines.ridge import Ridge


@pytest.fixture
def made():
    ridges = {
        "overall": Ridge(np.array([1.0, 0.0, -1.0], np.float32), 0.5, 1.0),
        "aesthetics": Ridge(np.array([0.0, 0.1, 0.0], np.float32), 0.25, 10.0),
    }
    about = {"task": "rated_images_multihead", "results": ["ä"]}
    return probe.Probe.join("efficientnet_lite1", 96, ridges, about)


def test_scores_are_cut_to_their_range(made):
    found = made.scores(np.float32([[0.2, 1.0, 0.1], [9, 0, 0], [0, 0, 9]]))
    np.testing.assert_allclose(found[0], [0.6, 0.35], atol=1e-6)
    np.testing.assert_allclose(found[1:, 0], [1, 0])


def test_written_and_read(made, tmp_path):
    assert not probe.is_probe(tmp_path)
    probe.write(tmp_path, made)
    assert probe.is_probe(tmp_path)
    found = probe.read(tmp_path)
    assert (found.eyes, found.side, found.targets) == (
        "efficientnet_lite1",
        96,
        ("overall", "aesthetics"),
    )
    assert found.about == made.about
    np.testing.assert_array_equal(found.weights, made.weights)
    np.testing.assert_array_equal(found.biases, made.biases)


def test_a_damaged_folder_is_one_clear_error(made, tmp_path):
    def save(**arrays):
        np.savez(tmp_path / probe.ARRAYS_FILE, **arrays)

    for damage in (
        lambda: (tmp_path / probe.ABOUT_FILE).write_text("{}"),
        lambda: (tmp_path / probe.ABOUT_FILE).write_text("[1]"),
        lambda: (tmp_path / probe.ARRAYS_FILE).write_bytes(b"PK"),
        lambda: (tmp_path / probe.ARRAYS_FILE).unlink(),
        lambda: save(weights=made.weights[:1], biases=made.biases),
        lambda: save(weights=made.weights * np.nan, biases=made.biases),
        lambda: save(weights=np.array([print], object), biases=made.biases),
    ):
        probe.write(tmp_path, made)
        damage()
        with pytest.raises(ValueError, match="is not a probe, or is damaged"):
            probe.read(tmp_path)
