"""Numbers of judged points, by hand."""

import numpy as np

from rahf import images
from rahf.applications.selection import parse_rule
from rahf.improvement.cycle import ImproveRequest, Point
from rahf.improvement.measuring import AREA, describe, measure
from tests.generators.muse.learner_test import small
from tests.support import predictions

POINTS = [
    Point("base", 0, "base"),
    Point("chosen", 2, "chosen/2"),
    Point("random", 2, "random/2"),
    Point("weighted", 2, "weighted/2"),
]
PROMPTS = ("a", "a", "b", "b")


def _request(folder):
    return ImproveRequest(
        workdir=str(folder),
        generator="G",
        rewards="R",
        judge="J",
        config=small("folder", training_steps=2),
        prompts=["x"],
        held_out=["a", "b"],
        rule=parse_rule("plausibility", None, [], 1, 1.0),
    )


def _write(folder, values, area):
    """Writes judged images, of which a share `area` is implausible."""
    rows = [
        (prompt, {"plausibility": value})
        for prompt, value in zip(PROMPTS, values, strict=True)
    ]
    predictions.write(folder / "judged", rows, size=(10, 10))
    heatmap = np.zeros((10, 10), np.float32)
    heatmap[: round(10 * area)] = 0.5
    for path in (folder / "judged" / "heatmaps").glob("*.implausibility.png"):
        images.write_heatmap(path, heatmap)


def test_points_by_hand(tmp_path):
    for folder, values, area in (
        ("base", (0.5, 0.5, 0.5, 0.5), 0.2),
        ("chosen/2", (0.9, 0.7, 0.5, 0.5), 0.1),
        ("random/2", (0.5, 0.5, 0.5, 0.1), 0.2),
        ("weighted/2", (0.5, 0.5, 0.5, 0.5), 0.2),
    ):
        _write(tmp_path / folder, values, area)
    found = measure(_request(tmp_path), POINTS)
    chosen, random, weighted = found.found
    side = chosen.side.scores["plausibility"]
    assert side.shares["significantly_better"].value == 0.25
    assert side.shares["slightly_better"].value == 0.25
    assert side.better_minus_worse.value == 0.5
    np.testing.assert_allclose(chosen.means["plausibility"].after.value, 0.65)
    moved = chosen.means[AREA]
    np.testing.assert_allclose([moved.before.value, moved.after.value], [0.2, 0.1])
    assert random.side.scores["plausibility"].better_minus_worse.value == -0.25
    assert weighted.side.scores["plausibility"].shares["same"].value == 1
    [direct] = found.direct
    assert (direct.point.arm, direct.against.arm) == ("weighted", "random")
    assert direct.side.scores["plausibility"].better_minus_worse.value == 0.25
    text = describe(found, ["plausibility"])
    assert "weighted against random, 2 steps" in text
    [line] = [each for each in text.splitlines() if each.startswith("chosen, 2 steps")]
    assert line.split()[3:6] == ["25.0", "25.0", "50.0"]
    assert "+50.0 (+0.0 to +100.0)" in line and "20.0 %  10.0 %" in line
