"""The curves of a run, from its log to the page."""

import re

import pytest

from rahf import targets
from rahf.reports import charts, run_curves
from rahf.reports.run_curves import read_curves, read_log

HEATMAPS = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.HEATMAP)]
SCORES = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.SCORE)]


def chart(points, **options):
    usual = {"title": "t", "label": "PLCC", "colors": {"a": 0}}
    return charts.line_chart({"a": points}, **usual | options)


def test_garbled_lines_of_the_log_are_counted(tmp_path):
    lines = [
        b'{"step": 1, "train/loss": 3.0}',
        b'{"step": 2, "train/lo',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b'{"train/loss": 1.0}',
        b'{"step": NaN, "train/loss": 1.0}',
        b'{"step": 3, "train/loss": "low"}',
        b'{"step": 4, "train/loss": 2.0}',
        b'{"ste',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_log(tmp_path) == ({"train/loss": [(1, 3.0), (4, 2.0)]}, 7)
    assert read_log(tmp_path / "none") == ({}, 0)


def test_curves_keep_the_last_of_a_step_and_drop_what_is_not_finite():
    rows = [
        {"step": 2, "train/loss": 1.0},
        {"step": 1, "train/loss": 3.0, "eval/a/plcc": float("nan")},
        {"step": 2, "train/loss": 0.5},
    ]
    assert read_curves(rows) == {"train/loss": [(1, 3.0), (2, 0.5)]}


def test_one_panel_for_the_loss_its_parts_and_each_headline():
    curves = {
        "train/loss": [(1, 2.0)],
        f"train/loss/{SCORES[0]}": [(1, 2.0), (2, 0.001)],
        f"eval/{SCORES[0]}/plcc": [(2, 0.5)],
        f"eval/{SCORES[0]}/n": [(2, 12)],
        f"eval/{HEATMAPS[0]}/cc": [(2, 0.25)],
        f"eval/{HEATMAPS[0]}/n": [(2, 10)],
        "train/gradient_norm": [(1, 1.0)],
    }
    losses = run_curves.loss_panels(curves, "train split, mean of 640 examples")
    assert losses.count("<svg") == losses.count("mean of 640 examples") == 2
    assert "at the end: total 2" in losses
    measured = run_curves.evaluation_panels(curves, "dev")
    assert measured.count("<svg") == 2
    assert "PLCC, dev split, 12 images" in measured
    assert "CC, dev split, 10 images" in measured
    assert not run_curves.loss_panels({}, "") + run_curves.evaluation_panels({}, "")


def test_what_curves_are_measured_on():
    curves = {"eval/a/n": [(1, 3.0)], "eval/b/n": [(1, 9.0), (2, 2000.0)]}
    say = run_curves.say_measured_on
    assert say(curves, ["a", "b"], "dev") == "dev split, 3 to 2,000 images"
    assert say(curves, ["a", "c"], "") == "3 images"
    assert say({}, ["a"], "test") == "test split"


def test_few_points_have_markers_and_axes_have_labels():
    few = chart([(i, float(i)) for i in range(8)])
    assert few.count("<circle") == 8
    assert chart([(i, float(i)) for i in range(100)]).count("<circle") == 1
    assert ">PLCC</text>" in few
    assert ">training step</text>" in few


@pytest.mark.parametrize(
    "values", [[0.0], [5.0, 5.0], [-1.0, 1.0], [1e-9, 1.0], [0.3, 0.31], [1e6, 2e6]]
)
@pytest.mark.parametrize("log", [False, True])
def test_charts_stay_within_their_frame(values, log):
    points = list(enumerate(values))
    svg = chart(points, log=log)
    path = re.search(r'<title>a</title><path d="M([^"]+)"', svg)
    for pair in path[1].split("L"):
        x, y = map(float, pair.split())
        assert 0 <= x <= 360
        assert 0 <= y <= 236
    assert svg.count('class="grid"') >= 2


def test_long_curves_are_thinned_without_losing_their_end():
    points = [(i, float(i % 2)) for i in range(10_000)]
    svg = chart(points)
    assert svg.count("L") < 200
    assert "<b>1</b>" in svg


def test_ticks_are_round():
    assert charts.nice_ticks([0.21, 0.79]) == [0.2, 0.4, 0.6, 0.8]
    assert charts.nice_ticks([0, 6000]) == [0, 2000, 4000, 6000]
    assert charts.nice_ticks([-1, 1]) == [-1, -0.5, 0, 0.5, 1]
    assert charts.log_ticks(0.0003, 4) == pytest.approx([0.001, 0.01, 0.1, 1])
    assert charts.log_ticks(0.4, 5) == pytest.approx([0.5, 1, 2, 5])
