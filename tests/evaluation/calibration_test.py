"""Conformal intervals hold what they promise, and belong to one checkpoint."""

import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rahf import targets
from rahf.applications import scored_shards
from rahf.bin import calibrate, report, score
from rahf.evaluation.calibration import conformal_offsets, coverage
from rahf.export.folder import export
from rahf.inference import intervals, predictor
from tests.support import tiny

SCORES = [row.name for row in targets.select(targets.FEEDBACK, targets.Kind.SCORE)]


def test_the_offsets_by_hand():
    errors = np.arange(-9, 10) / 100  # 19, so that (19 + 1) x .2 / 2 is the 2nd
    assert conformal_offsets(errors[::-1], 0.8) == (-0.08, 0.08)
    assert conformal_offsets(errors, 0.9) == (-0.09, 0.09)
    assert conformal_offsets(errors, 0.95) == (-1.0, 1.0)  # too few to say
    assert conformal_offsets(errors + 0.5, 0.8) == (0.0, pytest.approx(0.58))
    assert conformal_offsets(errors - 0.5, 0.8) == (pytest.approx(-0.58), 0.0)
    assert conformal_offsets([], 0.8) == (-1.0, 1.0)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_they_hold_their_share_of_new_images(level):
    """Also where errors are skewed; exact on the average over calibrations."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        truth = np.clip(rng.beta(4, 2, 400), 0, 1)
        predicted = np.clip(truth - rng.gamma(2, 0.05, 400) + 0.1, 0, 1)
        offsets = conformal_offsets(truth[:200] - predicted[:200], level)
        held.append(coverage(predicted[200:], truth[200:], offsets)[0])
    assert level - 0.005 < np.mean(held) < level + 0.02


def test_intervals_end_where_scores_do():
    assert coverage([0.95, 0.5], [1.0, 0.3], (-0.1, 0.2)) == (0.5, pytest.approx(0.225))
    around = intervals.Intervals(0.8, {"overall": (-0.1, 0.2)}).around
    found = around({"overall": 0.95, "mine": 0.5})
    assert found == {"overall": (pytest.approx(0.85), 1.0)}
    assert around({"overall": 0.05})["overall"] == (0.0, pytest.approx(0.25))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = tiny.config()
    config.input.image_size = 64
    folder = tiny.write_workdir(tmp_path_factory.mktemp("run"), config, step=3)
    calibrate.main([f"--checkpoint={folder}", "--check=test", "--examples=24"])
    return folder


def test_one_command_stores_them(workdir, capsys):
    found = intervals.read_file(workdir)
    assert (found["step"], found["split"], found["level"]) == (3, "dev", 0.8)
    assert list(found["scores"]) == SCORES
    assert all(about["n"] == 24 for about in found["scores"].values())
    checked = found["checked"]["scores"]["overall"]
    assert found["checked"]["split"] == "test" and checked["n"] == 24
    shares = [checked["coverage"][k] for k in ("0.5", "0.8", "0.95")]
    assert shares == sorted(shares) and shares[-1] == 1  # 24 are too few for 95 %


def test_a_loaded_model_gives_them(workdir):
    model = predictor.load(workdir)
    [found] = model.predict([np.zeros((64, 64, 3), np.uint8)], ["a red cat"])
    assert list(found.intervals) == SCORES and found.interval_level == 0.8
    for name, (low, high) in found.intervals.items():
        assert 0 <= low <= found.scores[name] <= high <= 1
        assert low < high
    line = {"scores": found.scores, **intervals.as_fields(found)}
    assert line["interval_level"] == 0.8
    low, high = line["intervals"]["overall"]
    told = f"overall {found.scores['overall']:.2f} ({low:.2f} to {high:.2f})"
    assert told in intervals.describe(line)


def test_score_writes_them_to_parquet(workdir, tmp_path):
    image = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "red").save(image)
    shard = tmp_path / "shard.jsonl"
    shard.write_text(json.dumps({"image": str(image), "prompt": "a red cat"}) + "\n")
    flags = [f"--checkpoint={workdir}", str(shard), "--decoders=0"]
    output = f"--output={tmp_path}/out"
    score.main([*flags, output])
    [path] = (tmp_path / "out").glob("*.parquet")
    [row] = pq.read_table(path).to_pylist()
    assert list(row["intervals"]) == SCORES
    low, high = (row["intervals"]["overall"][end] for end in ("low", "high"))
    assert low <= row["overall"] <= high
    [(_, line)] = scored_shards.read_lines([path])
    assert list(line["scores"]) == SCORES, "intervals are no score"
    assert line["intervals"]["overall"] == [round(low, 6), round(high, 6)]
    assert line["interval_level"] == 0.8
    # Outputs of another calibration are not mixed with these.
    path_of_calibration = workdir / intervals.FILE
    text = path_of_calibration.read_text()
    path_of_calibration.write_text(text.replace('"level": 0.8', '"level": 0.9'))
    with pytest.raises(SystemExit, match="expected an output of intervals 0.9"):
        score.main([*flags, output])
    path_of_calibration.write_text(text)


def test_the_report_plots_them(workdir, tmp_path):
    page = tmp_path / "page.html"
    flags = [f"--checkpoint={workdir}", f"--output={page}", "--examples=0"]
    report.main([*flags, "--eval_examples=4"])
    text = page.read_text("utf-8")
    assert "Prediction intervals" in text and "80% intervals" in text
    assert text.count("<circle") == 6 * len(SCORES)  # a level each


def test_an_export_takes_them_along_unless_they_are_stale(workdir, tmp_path, caplog):
    images, prompts = [np.zeros((64, 64, 3), np.uint8)], ["a red cat"]
    export(workdir, tmp_path / "made", form="safetensors")
    model = predictor.load(workdir)
    [one], [other] = (
        each.predict(images, prompts)
        for each in (model, predictor.load(tmp_path / "made"))
    )
    assert one.intervals == other.intervals and list(one.intervals) == SCORES
    # Other parameters in the folder: the file is not theirs.
    params = jax.tree.map(lambda x: x + 1, model.params)
    assert intervals.read(tmp_path / "made", 3, params) is None
    assert "step 3 has other parameters now" in caplog.text
    path = workdir / intervals.FILE
    text = path.read_text()
    path.write_text(text.replace('"step": 3', '"step": 2'))
    export(workdir, tmp_path / "stale", form="safetensors")
    path.write_text(text)
    assert not (tmp_path / "stale" / intervals.FILE).exists()
    assert "it is of step 2, not of step 3" in caplog.text


def test_those_of_another_checkpoint_are_not_used(workdir, caplog, tmp_path):
    path = workdir / intervals.FILE
    text = path.read_text()
    found = json.loads(text)
    assert intervals.why_stale(found, workdir, 3, None) == ""
    assert "of step 3, not of step 4" in intervals.why_stale(found, workdir, 4, None)
    params = {"overall": np.ones(3)}
    for change, message in (
        ({"step": 2}, "it is of step 2, not of step 3"),
        ({"checkpoint_digest": "files:0"}, "step 3 has other parameters now"),
    ):
        path.write_text(json.dumps(found | change))
        caplog.clear()
        assert intervals.read(workdir, 3, params) is None
        assert message in caplog.text and "run rahf.bin.calibrate again" in caplog.text
    for broken in ("{", "{}", json.dumps(found | {"format": 2}), "[1]"):
        path.write_text(broken)
        with pytest.raises(ValueError, match="not a calibration of this version"):
            intervals.read(workdir, 3, params)
    path.write_text(text)
    assert intervals.read(tmp_path, 3, params) is None


def test_splits_that_say_nothing_are_refused(workdir):
    for flags in (["--split=train"], ["--check=dev"], ["--check=train"]):
        with pytest.raises(SystemExit, match="error: .*not trained on"):
            calibrate.main([f"--checkpoint={workdir}", *flags])
