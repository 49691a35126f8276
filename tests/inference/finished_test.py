"""The resume state: its memory here, what it decides in resume_test.py."""

import json
import tracemalloc

import pytest

from rahf.inference.finished import Finished
from rahf.inference.jobs import Job, read_jobs
from rahf.inference.writer import PredictionWriter


def _resume(folder, rows):
    """Lists rows, of which three of four are done; returns bytes of memory at most."""
    folder.mkdir()
    made_by = {"checkpoint": "W, step 1"}
    with (folder / "list.jsonl").open("w") as file:
        for number in range(rows):  # without ids, so that nearly all get a number
            row = {"image": f"{number % 3}.png", "prompt": f"a red cat, {number}"}
            file.write(json.dumps(row) + "\n")
    tracemalloc.start()
    try:
        jobs = read_jobs([str(folder / "list.jsonl")])
        with (folder / "predictions.jsonl").open("w") as file:
            for number, job in enumerate(jobs):
                line = {"id": job.id, "image": job.image, "prompt": job.prompt}
                line |= {"error": "damaged"} if number % 4 == 3 else {"scores": {}}
                file.write(json.dumps({**line, **made_by}) + "\n")
        with PredictionWriter(folder, checkpoint="W, step 1") as out:
            missing = out.missing(jobs)
            read = sum(1 for _ in missing)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(jobs), len(missing), read) == (rows, rows // 4, rows // 4)
    assert missing[0].id == "0-2"
    assert missing[-1].prompt == f"a red cat, {rows - 1}"
    assert out.path.read_bytes().count(b"\n") == rows - len(missing)
    return peak


def test_memory_does_not_grow_with_the_rows(tmp_path):
    _resume(tmp_path / "warm", 40)  # what is imported on the way is not counted
    assert _resume(tmp_path / "many", 1600) < 600e3  # bytes; lists took 1,500 a row


def test_a_row_that_was_done_twice_counts_once(tmp_path):
    finished = Finished(tmp_path / "predictions.jsonl")
    line = {"id": "a", "image": "/a.png", "prompt": "x", "prompt_truncated": True}
    finished.add({**line, "image": "/other.png"})
    finished.add(line)  # the later line of an id counts
    jobs = [Job("a", "/a.png", "x", "a"), Job("b", "/a.png", "x", "b", "a")]
    assert list(finished.missing(jobs)) == jobs[1:]
    assert finished.truncated == 1
    assert list(finished.missing(jobs)) == jobs[1:]  # asking changes nothing
    assert finished.truncated == 1


def test_lines_that_are_none_of_ours(tmp_path):
    finished = Finished(tmp_path / "predictions.jsonl")
    for line in ({}, {"id": 1, "image": "a", "prompt": "x"}, [1]):
        with pytest.raises((KeyError, TypeError, AttributeError)):
            finished.add(line)
    assert finished.missing(jobs := [Job("a", "/a.png", "x", "a")]) is jobs
