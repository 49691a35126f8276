"""What `PredictionWriter` holds to be done: when lists grow, folders move, processes die."""

import json
import multiprocessing
import os
import signal
import types

import numpy as np
import pytest
from PIL import Image

from rahf import durable, images
from rahf.inference.jobs import Job, read_jobs
from rahf.inference.writer import PredictionWriter

PIXELS = np.zeros((4, 4, 3), np.uint8)


def _predict(score=0.5, truncated=False):
    return types.SimpleNamespace(
        scores={"overall": score},
        words=[],
        heatmaps={"implausibility": np.full((4, 4), score, np.float32)},
        prompt_truncated=truncated,
        intervals={},
        distance=None,
    )


def _run(output, jobs):
    """Does what is missing; returns the ids it was done under."""
    with PredictionWriter(output) as out:
        missing = out.missing(jobs)
        for job in missing:
            out.write(job, PIXELS, _predict())
    return [job.id for job in missing]


def _ids(output):
    """{file name and prompt: id} of all lines, each once."""
    lines = (output / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["id"] for row in rows}) == len(rows)
    return {(os.path.basename(r["image"]), r["prompt"]): r["id"] for r in rows}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(("a.jpg", "a.png", "b.png")):
        Image.new("L", (9, 9), number).save(folder / name)
    return folder


def test_ids_stay_when_images_are_added(folder, tmp_path):
    output = tmp_path / "out"
    assert _run(output, read_jobs([str(folder)], "x")) == ["a", "a-2", "b"]
    before = _ids(output)
    # In the list it comes first, and would be called "a".
    Image.new("L", (9, 9), 9).save(folder / "a.bmp")
    assert _run(output, read_jobs([str(folder)], "x")) == ["a-3"]
    assert _ids(output) == before | {("a.bmp", "x"): "a-3"}
    assert _run(output, read_jobs([str(folder)], "x")) == []


def test_ids_stay_when_rows_are_added(folder, tmp_path):
    rows = [{"image": "a.png", "prompt": p} for p in ("a cat", "a dog", "a cat")]
    table, output = folder / "list.json", tmp_path / "out"
    table.write_text(json.dumps(rows))
    assert _run(output, read_jobs([str(table)])) == ["a", "a-2", "a-3"]
    rows.insert(0, {"image": "a.png", "prompt": "a fish"})
    rows.append({"image": "b.png", "prompt": "a cat", "id": "b"})
    table.write_text(json.dumps(rows))
    assert _run(output, read_jobs([str(table)])) == ["a-4", "b"]
    assert _run(output, read_jobs([str(table)])) == []


def test_a_folder_that_was_moved_goes_on(folder, tmp_path):
    output = tmp_path / "out"
    _run(output, read_jobs([str(folder)], "x"))
    moved = folder.rename(tmp_path / "elsewhere")
    Image.new("L", (9, 9), 7).save(moved / "a.gif")
    Image.new("L", (9, 9), 8).save(moved / "c.png")
    assert _run(output, read_jobs([str(moved)], "x")) == ["a-3", "c"]
    assert _ids(output)["a.png", "x"] == "a-2"
    # Another picture of the same name is not the same.
    Image.new("L", (9, 9), 200).save(moved / "b.png")
    again = moved.rename(tmp_path / "third")
    with pytest.raises(ValueError, match="already has id 'b'"):
        _run(output, read_jobs([str(again)], "x"))


def test_two_folders_with_equal_names(folder, tmp_path):
    other, output = tmp_path / "other", tmp_path / "out"
    other.mkdir()
    Image.new("L", (9, 9), 77).save(other / "b.png")
    both = [str(folder), str(other)]
    assert _run(output, read_jobs(both, "x")) == ["a", "a-2", "b", "b-2"]
    assert _run(output, read_jobs(both[::-1], "x")) == []


def test_names_of_pictures_are_never_taken_twice(folder, tmp_path):
    """On file systems that do not tell B from b either."""
    output, table = tmp_path / "out", folder / "list.json"
    table.write_text(json.dumps([{"image": "b.png", "prompt": "x", "id": "B"}]))
    _run(output, read_jobs([str(table)]))
    _run(output, read_jobs([str(folder / "b.png")], "y"))
    names = [path.name.casefold() for path in (output / "heatmaps").iterdir()]
    assert len(set(names)) == 2


def test_another_prompt_is_refused(folder, tmp_path):
    _run(tmp_path / "out", read_jobs([str(folder)], "x"))
    with pytest.raises(ValueError, match="and prompt 'x', not .* and 'y'; choose"):
        _run(tmp_path / "out", read_jobs([str(folder)], "y"))


def test_the_checkpoint_can_be_named_later(tmp_path):
    job = Job("one", "/one.png", "x", "one")
    with PredictionWriter(tmp_path, checkpoint=None) as out:
        with pytest.raises(ValueError, match="set the checkpoint first"):
            out.write_error(job, ValueError())
        out.use("A")
        out.write(job, PIXELS, _predict(truncated=True))
        assert (out.written, out.truncated) == (1, 1)
    with PredictionWriter(tmp_path, checkpoint=None) as out:
        assert list(out.missing([job])) == []
        assert (out.written, out.truncated) == (0, 1)
        with pytest.raises(ValueError, match="checkpoint 'B', got one of 'A'"):
            out.use("B")


def _write_for_ever(output, acknowledged):
    with PredictionWriter(output) as out:
        for number in range(10_000):
            name = f"{number:04}"
            job = Job(name, f"/{name}.png", "prompt " * 500, name)
            out.write(job, np.zeros((64, 64, 3), np.uint8), _predict())
            acknowledged.send(name)


@pytest.mark.parametrize("after", [1, 20, 40])
def test_killed_at_any_instant(tmp_path, after):
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_write_for_ever, args=(tmp_path, sender))
    process.start()
    sender.close()
    for _ in range(after):
        receiver.recv()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    acknowledged = [f"{number:04}" for number in range(after)]
    while True:
        try:
            acknowledged.append(receiver.recv())
        except EOFError:
            break
    path = tmp_path / "predictions.jsonl"
    with path.open("ab") as file:
        file.write(b'{"id": "torn", "image": "/tor')
    jobs = [Job(name, f"/{name}.png", "prompt " * 500, name) for name in acknowledged]
    with PredictionWriter(tmp_path) as out:
        assert list(out.missing(jobs)) == []
    for line in path.read_bytes().splitlines():
        row = json.loads(line)
        for file in (*row["heatmaps"].values(), *row["overlays"].values()):
            images.read_image(tmp_path / file)
    left = [*tmp_path.rglob(".*")]
    assert [file.name for file in left] == [durable.LOCK_FILE]


class _FullDisk:
    """A file on which only part of the next line has room."""

    def __init__(self, file):
        self._file, self.room = file, 30

    def write(self, data):
        if self.room == 0:
            raise OSError(28, "No space left on device")
        written = self._file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_full_disk_leaves_whole_lines(tmp_path):
    first, second, third = (Job(i, f"/{i}.png", "x", i) for i in "123")
    out = PredictionWriter(tmp_path)
    out.write(first, PIXELS, _predict())
    file, out._file = out._file, _FullDisk(out._file)
    message = r"--output=.*: cannot be written to \(No space left on device\); once"
    with pytest.raises(ValueError, match=message):
        out.write(second, PIXELS, _predict())
    out._file = file  # there is room again
    out.write(third, PIXELS, _predict())
    out.__exit__()
    assert list(_ids(tmp_path).values()) == ["1", "3"]
    with PredictionWriter(tmp_path) as again:
        assert list(again.missing([first, second, third])) == [second]


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    with PredictionWriter(tmp_path) as out:
        (tmp_path / "overlays").rmdir()
        with pytest.raises(ValueError, match=r"^--output=.*\(No such file or direct"):
            out.write(Job("1", "/1.png", "x", "1"), PIXELS, _predict())
        assert out.path.read_bytes() == b""


def test_a_picture_that_was_replaced_is_named(folder, tmp_path):
    output = tmp_path / "out"
    jobs = read_jobs([str(folder)], "x")
    _run(output, jobs)
    picture = folder / "b.png"
    row = json.loads((output / "predictions.jsonl").read_text().splitlines()[-1])
    assert row["image_bytes"] == picture.stat().st_size
    os.utime(picture, ns=(1, 1))  # touched, but the same
    assert _run(output, jobs) == []
    Image.new("L", (9, 9), 200).save(picture)
    with pytest.raises(
        ValueError, match=r"b\.png: the file has changed .* id 'b'; rem"
    ):
        _run(output, jobs)
    # Lines of before files were measured count as done.
    path = output / "predictions.jsonl"
    old = [json.loads(line) for line in path.read_text().splitlines()]
    for line in old:
        del line["image_bytes"], line["image_mtime_ns"]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert _run(output, jobs) == []
    # Without its line it is predicted again, under its own names.
    path.write_text("".join(json.dumps(line) + "\n" for line in old[:-1]))
    assert _run(output, jobs) == ["b"]


@pytest.mark.parametrize(
    ("name", "digest", "message"),
    [
        ("new/W, step 3", "files:a", None),  # moved
        (
            "W, step 3",
            "files:b",
            "line 1: .*got one of 'W, step 3' with other parameters",
        ),
        (
            "W, step 4",
            "files:b",
            "line 1: .*of checkpoint 'W, step 4', got one of 'W, step 3'",
        ),
        ("W, step 3", "arrays:c", None),  # says nothing of the other kind: the names
        ("V, step 3", "arrays:c", "of checkpoint 'V, step 3', got one of 'W"),
        ("W, step 3", None, None),
        ("V, step 3", None, "of checkpoint 'V, step 3', got one of 'W"),
    ],
)
def test_parameters_decide_and_else_the_name(tmp_path, name, digest, message):
    job = Job(id="one", image="one.png", prompt="", name="one")
    with PredictionWriter(tmp_path, checkpoint=None) as out:
        out.use("W, step 3", "files:a")
        out.write(job, PIXELS, _predict())
    with PredictionWriter(tmp_path, checkpoint=None) as out:
        if message is None:
            out.use(name, digest)
            return
        with pytest.raises(ValueError, match=message):
            out.use(name, digest)
