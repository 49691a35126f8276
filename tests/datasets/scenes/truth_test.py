"""What is true of a scene, without rater noise, and one rater against the others."""

import numpy as np
import pytest

from rahf.datasets.scenes import Scenes, oracle, rater_against_others, truth


def test_truth_by_hand():
    scene = {
        "prompt": "a red ball",
        "groups": [{}],
        "style": None,
        "misalignment": [{"flaw": "color", "group": 0, "words": [1], "spots": []}],
        "implausibility": [],
        "aesthetics": [{"flaw": "blur", "strength": 0.5}],
    }
    assert truth.plausibility(scene) == 1
    assert truth.alignment(scene) == pytest.approx(np.exp(-1.7 * 0.65), abs=1e-6)
    assert truth.aesthetics(scene) == pytest.approx(0.9 - 1.3 * 0.4 * 0.5)
    assert truth.word_label(scene).tolist() == [1, 0, 1]
    for count, strength in ((1, 0.5), (1, 1.0), (5, 1.0)):
        flaw = {"flaw": "broken", "strength": strength, "spots": [[0.5, 0.5]] * count}
        worse = truth.plausibility({**scene, "implausibility": [flaw]})
        assert worse < truth.plausibility(scene)
        scene = {**scene, "implausibility": [flaw]}


def test_expected_map_is_the_mean_of_many_raters():
    # A rater notices with 0.98, clicks each spot with 0.93, and jitters.
    flaw = {"strength": 1.0, "spots": [[0.5, 0.5]]}
    expected = truth.heatmap([flaw], (100, 100))
    assert expected[50, 50] == pytest.approx(0.98 * 0.93, abs=1e-3)
    assert expected[50, 60] == 0
    assert expected[49, 54] == pytest.approx(0.98 * 0.93 / 2, abs=0.1)


def test_rater_against_others():
    record = Scenes("dev", 64)[0]
    pairs = rater_against_others(record)
    assert [pair["rater"] for pair in pairs] == [r["rater"] for r in record["ratings"]]
    for field in ("artifact_map", "misalignment_map"):
        mean = sum(pair["own"][field] for pair in pairs) / 3
        np.testing.assert_allclose(mean, record[field], atol=1e-6)


def test_a_faithful_scene_shows_its_prompt():
    faithful = Scenes("train", 64, difficulty="simple", faithful=True)
    flawed = Scenes("train", 64, difficulty="simple")
    records = [faithful[i] for i in range(30)]
    for record in records:
        label = oracle(record)
        assert label["alignment"] == 1 and label["misaligned_words"].all()
    assert any(record["scene"]["implausibility"] for record in records)
    assert any(oracle(flawed[i])["alignment"] < 1 for i in range(9))
    assert len({record["uid"] for record in records} | {flawed[0]["uid"]}) == 31
