"""Reading ahead; runs are in tests/bin/predict_test.py."""

import pytest
from PIL import Image

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
