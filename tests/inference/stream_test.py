"""Reading ahead, and distances; other runs are in tests/bin/predict_test.py."""

import json
import types

import ml_collections
import numpy as np
import pytest
from PIL import Image

import rahf.inference.predictor
from rahf import images
from rahf.inference import stream
from rahf.inference.jobs import Job


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for value in range(5):
        image = Image.new("RGB", (20 + value, 10), (51 * value,) * 3)
        image.save(folder / f"{value}.png")
    return folder


def test_read_ahead_keeps_order_and_carries_errors(folder):
    (folder / "2.png").write_bytes(b"")
    jobs = [Job(str(i), str(folder / f"{i}.png"), "", str(i)) for i in range(5)]
    batches = list(stream.read_batches(jobs, 2, workers=3))
    assert [[job.id for job, _ in batch] for batch in batches] == [
        ["0", "1"],
        ["2", "3"],
        ["4"],
    ]
    read = [image for batch in batches for _, image in batch]
    assert isinstance(read.pop(2), images.ImageError)
    assert [int(image[0, 0, 0]) for image in read] == [0, 51, 153, 204]
    assert list(stream.read_batches([], 2)) == []


def test_batches_of_large_images_are_smaller(folder, tmp_path, monkeypatch):
    data = (folder / "0.png").read_bytes()
    folder = tmp_path / "equal"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(data)
    size = images.read_image(data).nbytes
    assert images.measure(folder / "0.png") == size
    assert images.measure(folder / "gone.png") == 0
    jobs = [Job(str(i), str(folder / f"{i}.png"), "", str(i)) for i in range(5)]
    for limit, expected in ((2 * size, [2, 2, 1]), (size - 1, [1] * 5)):
        monkeypatch.setattr(stream, "BATCH_BYTES", limit)
        batches = list(stream.read_batches(jobs, 4))
        assert [len(batch) for batch in batches] == expected
        assert [job for batch in batches for job, _ in batch] == jobs


def test_options_are_checked():
    with pytest.raises(ValueError, match="on_error='ignore'; expected 'fail'"):
        stream.Options(on_error="ignore")
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        stream.Options(batch_size=0)


DISTANCES = [12.34, 99, 99.04, 99.96, 100]


class _Distant:
    """Knows the distance of each image by its height."""

    step, params, known = 5, {}, True
    config = ml_collections.ConfigDict(
        {"input": {"text_length": 36}, "task": {"name": "rated_images_multihead"}}
    )

    def predict(self, pictures, prompts, batch_size):
        return [
            types.SimpleNamespace(
                scores={"plausibility": 0.5},
                words=[],
                heatmaps={},
                prompt_truncated=False,
                intervals={},
                distance=DISTANCES[len(picture) - 10] if self.known else None,
            )
            for picture in pictures
        ]


@pytest.fixture
def predict(monkeypatch, tmp_path):
    for i in range(5):
        Image.fromarray(np.zeros((10 + i, 9, 3), np.uint8)).save(tmp_path / f"{i}.png")
    predictor = _Distant()
    monkeypatch.setattr(rahf.inference.predictor, "load", lambda *_: predictor)

    def run(known=True, limit=None):
        predictor.known = known
        sources = stream.Sources([str(tmp_path)], "x", limit=limit)
        _, report = stream.predict_folder(sources, str(tmp_path / "out"), "W")
        lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
        return report, [json.loads(line) for line in lines]

    return run


def test_how_many_are_far(predict):
    assert "none of 2 images is farther from" in predict(limit=2)[0]
    report, rows = predict(limit=4)
    # 99.04 is written as 99.0, and counted as it is written.
    assert [row["distance"] for row in rows] == [12.3, 99.0, 99.0, 100.0]
    told = "1 of 4 images is farther from the training images than 99 % of those"
    assert told in report
    # Those of the first command count too.
    assert "2 of 5 images are farther" in predict()[0]
    assert "2 of 5 images are farther" in predict()[0]


def test_who_reads_no_prompt_says_so(predict, monkeypatch):
    assert "reads no prompt" not in predict()[0]
    input_ = ml_collections.ConfigDict({"text_length": 36, "prompts": "none"})
    config = ml_collections.ConfigDict({"input": input_, "task": _Distant.config.task})
    monkeypatch.setattr(_Distant, "config", config)
    assert "note: this checkpoint reads no prompt" in predict()[0]


def test_an_unknown_distance_is_not_written(predict):
    report, rows = predict(known=False)
    assert len(rows) == 5
    assert not any("distance" in row for row in rows)
    assert "farther" not in report
