import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from rahf import images
from rahf.inference.jobs import Job
from rahf.inference.writer import PredictionWriter


@dataclasses.dataclass
class Word:
    text: str
    probability: float
    misaligned: bool


@dataclasses.dataclass
class Prediction:
    scores: dict
    words: list
    heatmaps: dict
    prompt_truncated: bool = False
    distance: float | None = None
    intervals: dict = dataclasses.field(default_factory=dict)
    interval_level: float | None = None


def _prediction(score=0.25):
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    return Prediction(
        scores={"plausibility": np.float32(score), "overall": 1.0},
        words=[Word("a", np.float32(0.125), np.bool_(False)), Word("cät", 0.75, True)],
        heatmaps={"implausibility": ramp, "misalignment": 0 * ramp},
    )


def _job(id_="one", prompt="a cät"):
    return Job(id_, f"/data/{id_}.png", prompt, id_)


def _image(height=30, width=50):
    return np.full((height, width, 3), 90, np.uint8)


def _lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_one_line_and_its_files(tmp_path):
    with PredictionWriter(tmp_path / "new" / "out", checkpoint="W, step 3") as out:
        returned = out.write(_job(), _image(), _prediction())
    assert _lines(out.path) == [returned]
    assert returned == {
        "id": "one",
        "image": "/data/one.png",
        "image_sha256": None,  # there is no such file
        "image_size": [30, 50],
        "prompt": "a cät",
        "prompt_truncated": False,
        "scores": {"plausibility": 0.25, "overall": 1.0},
        "words": [
            {"text": "a", "probability": 0.125, "misaligned": False},
            {"text": "cät", "probability": 0.75, "misaligned": True},
        ],
        "heatmaps": {
            "implausibility": "heatmaps/one.implausibility.png",
            "misalignment": "heatmaps/one.misalignment.png",
        },
        "overlays": {
            "implausibility": "overlays/one.implausibility.jpg",
            "misalignment": "overlays/one.misalignment.jpg",
        },
        "checkpoint": "W, step 3",
    }
    root = out.path.parent
    heatmap = images.read_heatmap(root / returned["heatmaps"]["implausibility"])
    expected = images.resize(_prediction().heatmaps["implausibility"], (30, 50))
    np.testing.assert_allclose(heatmap, expected, atol=1 / 255)
    assert not images.read_heatmap(root / returned["heatmaps"]["misalignment"]).any()
    with Image.open(root / returned["overlays"]["implausibility"]) as overlay:
        assert overlay.format == "JPEG"
        assert min(overlay.size) >= 256  # enlarged, with a colour bar below
        assert np.ptp(np.asarray(overlay)) > 100  # the heatmap can be seen
    assert "cät" in out.path.read_text("utf-8")  # readable, not escaped


@pytest.mark.parametrize("shape", [(1, 20000), (65500, 1), (1, 1)])
def test_strips(tmp_path, shape):
    with PredictionWriter(tmp_path) as out:
        row = out.write(_job(), _image(*shape), _prediction())
    heatmap = images.read_heatmap(tmp_path / row["heatmaps"]["implausibility"])
    assert heatmap.shape == shape
    with Image.open(tmp_path / row["overlays"]["implausibility"]) as overlay:
        assert max(overlay.size) <= 65500


def test_resumes_after_a_crash(tmp_path):
    jobs = [_job(id_) for id_ in ("one", "two", "three")]
    with PredictionWriter(tmp_path, checkpoint="W") as out:
        assert list(out.missing(jobs)) == jobs
        out.write(jobs[0], _image(), _prediction())
        out.write_error(jobs[1], ValueError("unreadable"))
        out.write(jobs[2], _image(), _prediction())
    assert [line.get("error") for line in _lines(out.path)] == [
        None,
        "unreadable",
        None,
    ]
    whole = out.path.read_bytes()
    out.path.write_bytes(whole[:-20])  # the power went while "three" was written
    with PredictionWriter(tmp_path, checkpoint="W") as out:
        assert list(out.missing(jobs)) == jobs[1:]
        for job in jobs[1:]:
            out.write(job, _image(), _prediction())
    assert [line["id"] for line in _lines(out.path)] == ["one", "two", "three"]
    with PredictionWriter(tmp_path, checkpoint="W") as out:
        assert list(out.missing(jobs)) == []
    assert not list(tmp_path.glob("*.tmp"))


def test_a_line_cut_right_before_its_end_is_redone(tmp_path):
    with PredictionWriter(tmp_path) as out:
        out.write(_job(), _image(), _prediction())
    out.path.write_bytes(out.path.read_bytes()[:-1])
    with PredictionWriter(tmp_path) as out:
        assert list(out.missing([_job()])) == [_job()]
        out.write(_job(), _image(), _prediction())
    assert len(_lines(out.path)) == 1


def test_refuses_to_mix(tmp_path):
    with PredictionWriter(tmp_path, checkpoint="A, step 2") as out:
        out.write(_job(), _image(), _prediction())
        before = out.path.read_bytes()
    with pytest.raises(
        ValueError, match=r"line 1.*'A, step 4', got one of 'A, step 2'"
    ):
        PredictionWriter(tmp_path, checkpoint="A, step 4")
    with (
        PredictionWriter(tmp_path, checkpoint="A, step 2") as out,
        pytest.raises(ValueError, match="already has id 'one', for image"),
    ):
        out.missing([_job(prompt="a dog")])
    assert out.path.read_bytes() == before


def test_refuses_what_it_did_not_write(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written to: File exists"):
        PredictionWriter(tmp_path / "file")
    for text in ("my notes\n", "[1]\n", '{"id": "x", "prompt": "p"}\n'):
        (tmp_path / "predictions.jsonl").write_text(text)
        with pytest.raises(ValueError, match="line 1: not written by rahf.bin.predict"):
            PredictionWriter(tmp_path)
        assert (tmp_path / "predictions.jsonl").read_text() == text


def test_not_finite_is_an_error(tmp_path):
    with (
        PredictionWriter(tmp_path) as out,
        pytest.raises(ValueError, match=r"one\.png: expected finite.*nan"),
    ):
        out.write(_job(), _image(), _prediction(score=np.nan))
    assert out.path.read_bytes() == b""


def test_file_names_that_are_not_utf8(tmp_path):
    job = Job("one", "/data/\udcff.png", "x", "one")
    with PredictionWriter(tmp_path) as out:
        out.write(job, _image(), _prediction())
    with PredictionWriter(tmp_path) as out:
        assert list(out.missing([job])) == []
    assert _lines(out.path)[0]["image"] == job.image


def test_intervals_are_written_beside_their_scores(tmp_path):
    with PredictionWriter(tmp_path, checkpoint="c") as writer:
        prediction = _prediction(0.5)
        prediction.intervals = {"plausibility": (np.float32(0.4), 0.7)}
        prediction.interval_level = 0.8
        writer.write(_job(), _image(), prediction)
        writer.write(_job("two"), _image(), _prediction())
    calibrated, plain = _lines(writer.path)
    assert calibrated["intervals"] == {"plausibility": [0.4, 0.7]}
    assert calibrated["interval_level"] == 0.8
    assert not {"intervals", "interval_level"} & plain.keys()
    assert [row["id"] for row in writer.first] == ["one", "two"]
