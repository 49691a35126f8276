"""What a model thinks becomes a guess in the form of an answer."""

import numpy as np
import pytest

from rahf.annotation.formats import predictions
from tests.support import predictions as made

ROWS = made.ROWS[:2] * 2


def _disks(size, *disks, radius=5):
    heatmap = np.zeros(size, np.float32)
    rows, columns = np.indices(size)
    for x, y, value in disks:
        inside = np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= radius
        heatmap[inside] = np.maximum(heatmap[inside], value)
    return heatmap


def test_peaks_are_where_raters_would_have_clicked():
    heatmap = _disks((100, 200), (50, 30, 1 / 3), (150, 60, 1), (10, 90, 0.25))
    found = predictions.find_peaks(heatmap, (400, 200), threshold=0.3)
    assert len(found) == 2
    np.testing.assert_allclose(found, [(300, 120), (100, 60)], atol=1e-3)
    found = predictions.find_peaks(heatmap, (400, 200), threshold=0.25)
    np.testing.assert_allclose(found[2], (20, 180), atol=1e-3)


def test_a_slope_is_one_peak_and_an_empty_map_has_none():
    rows, columns = np.indices((60, 60))
    hill = np.exp(-((rows - 20) ** 2 + (columns - 40) ** 2) / 8).astype(np.float32)
    assert predictions.find_peaks(hill, (60, 60), threshold=0.3) == ((40.5, 20.5),)
    for empty in (np.zeros((8, 8)), np.full((8, 8), 0.29)):
        assert not predictions.find_peaks(empty, (8, 8), threshold=0.3)
    ring = _disks((100, 100), (50, 50, 1), radius=8)
    ring[_disks((100, 100), (50, 50, 1), radius=7) > 0] = 0
    [(x, y)] = predictions.find_peaks(ring, (100, 100), threshold=0.3)
    assert ring[int(y), int(x)] == 1
    full = predictions.find_peaks(np.ones((100, 60)), (60, 100), threshold=0)
    assert full == ((30, 50),)


def test_the_shoulder_of_a_broad_hill_is_no_peak():
    rows, columns = np.indices((200, 200))
    hill = np.exp(-((rows - 90) ** 2 + (columns - 70) ** 2) / 5000).astype(np.float32)
    assert (hill > 0.3).sum() > 50 * np.pi * 10**2 / 4, "room for many disks"
    assert len(predictions.find_peaks(hill, (200, 200), threshold=0.3)) == 1
    hill[150:153, 100] = hill[120:180, 70:130].max() + 0.01
    assert len(predictions.find_peaks(hill, (200, 200), threshold=0.3)) == 2
    checks = np.indices((400, 400)).sum(0) % 2  # of the same height everywhere
    assert (
        len(predictions.find_peaks(checks, (9, 9), threshold=0.3)) <= predictions.MOST
    )


def test_scores_become_the_nearest_answer():
    given = {0: 1, 0.124: 1, 0.125: 2, 0.5: 3, 0.874: 4, 0.875: 5, 1: 5, 1.2: 5}
    assert {s: predictions.to_answer(s) for s in given} == given


def test_the_output_of_predict(tmp_path):
    folder = made.write(tmp_path / "p", ROWS)
    path = folder / predictions.FILE
    with path.open("a") as file:
        file.write('{"id": "x", "image": "no.png", "prompt": "", "checkpoint": "/r", ')
        file.write('"error": "damaged"}\n{"image": "0.p')  # a killed process
    tasks = list(predictions.read_tasks(path, folder))
    assert [(task.image, size) for task, *size in tasks] == [
        (f"{n}.png", [60, 40]) for n in range(4)
    ]
    first = tasks[0][0].guess
    assert first.misaligned_words == (1,) and not first.nothing_wrong
    assert first.scores == {"plausibility": 5, "alignment": 2, "overall": 3}
    assert first.implausible_points and not tasks[1][0].guess.implausible_points
    high = list(predictions.read_tasks(path, folder, threshold=0.6))
    assert not high[0][0].guess.implausible_points


def test_an_image_that_changed_or_moved(tmp_path):
    folder = made.write(tmp_path / "p", ROWS)
    folder.rename(tmp_path / "moved")
    folder = tmp_path / "moved"
    assert len(list(predictions.read_tasks(folder / "predictions.jsonl", folder))) == 4
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(ValueError, match="line 2: .*another image than was predicted"):
        list(predictions.read_tasks(folder / "predictions.jsonl", folder))
    made.edit(folder, 0, words=[{"text": "b", "probability": 1, "misaligned": True}])
    with pytest.raises(ValueError, match="line 1: field 'words'"):
        list(predictions.read_tasks(folder / "predictions.jsonl", folder))


def test_without_heatmaps_there_are_no_points(tmp_path):
    folder = made.write(tmp_path / "p", ROWS, heatmaps={})
    tasks = list(predictions.read_tasks(folder / "predictions.jsonl", folder))
    assert all(not task.guess.implausible_points for task, *_ in tasks)
