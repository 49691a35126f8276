"""Decoding in other processes, which an image may kill."""

import os
import pathlib
import platform
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from rahf.inference import decoders
from rahf.inference.decode import decode
from rahf.inference.decoders import Decoders
from rahf.inference.shards import Item
from tests.support import captions_fixture


def dying(source: bytes | str, side: int):
    if source == b"poison":
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(source, side)


def doomed(source: bytes | str, side: int):
    os.abort()


def _items(number, poison=()):
    for n in range(number):
        image = b"poison" if n in poison else captions_fixture.encoded(n)
        yield Item(str(n), image, "a prompt")


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_come_in_order(processes, tmp_path):
    (tmp_path / "0.png").write_bytes(captions_fixture.encoded(9))
    others = [
        Item("path", str(tmp_path / "0.png"), ""),
        Item("gone", str(tmp_path / "1.png"), ""),
        Item("bad", b"broken", ""),
        Item("fault", b"", "", fault="no image"),
    ]
    with Decoders(8, processes) as pool:
        found = list(pool.batches(iter([*_items(5), *others]), 4))
    assert [len(batch) for batch in found] == [4, 4, 1]
    flat = [each for batch in found for each in batch]
    assert [each.item.id for each in flat[:6]] == [*"01234", "path"]
    assert [int(each.square[0, 0, 0]) for each in flat[:6]] == [0, 1, 2, 3, 4, 9]
    assert flat[0].square.shape == (8, 8, 3)
    assert flat[0].size == (24, 24)
    assert "no such file" in flat[6].fault.lower() or "1.png" in flat[6].fault
    assert flat[7].square is None
    assert flat[8].fault == "no image"


def test_a_dying_decoder_costs_one_image():
    with Decoders(8, 2, dying) as pool:
        flat = [
            each for batch in pool.batches(_items(24, {5, 6, 20}), 4) for each in batch
        ]
    assert [n for n, each in enumerate(flat) if each.fault] == [5, 6, 20]
    assert flat[5].fault == decoders.DIED
    assert [int(each.square[0, 0, 0]) for each in flat if not each.fault] == [
        n for n in range(24) if n not in (5, 6, 20)
    ]


def test_decoders_that_cannot_run_are_an_error(monkeypatch):
    monkeypatch.setattr(decoders, "decode", doomed)
    with (
        Decoders(8, 1, doomed) as pool,
        pytest.raises(ValueError, match="die at once.*--decoders=0"),
    ):
        list(pool.batches(_items(2), 2))


def test_what_the_reader_raises_comes_after_what_it_read():
    def items():
        yield from _items(3)
        raise ValueError("cut")

    found = []
    with Decoders(8, 0) as pool, pytest.raises(ValueError, match="cut"):
        for batch in pool.batches(items(), 2):
            found += batch
    assert len(found) == 2


def test_reading_runs_a_bounded_way_ahead():
    read = []

    def items():
        for item in _items(40):
            read.append(item.id)
            yield item

    with Decoders(8, 0) as pool:
        batches = pool.batches(items(), 2)
        next(batches)
        time.sleep(0.05)
        assert 2 < len(read) <= 2 * (decoders.AHEAD + 1)
        batches.close()


def test_processes_end_with_a_killed_parent(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""\
        import os, signal
        from rahf.inference.decoders import Decoders
        from rahf.inference.shards import Item

        if __name__ == "__main__":
            pool = Decoders(8, 1)
            list(pool.batches(iter([Item("x", b"", "")]), 1))
            print(*pool._pool._processes, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, program],
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    [child] = map(int, done.stdout.split())
    for _ in range(100):
        if not pathlib.Path(f"/proc/{child}").exists():
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the decoding process outlived its parent")


def test_a_square_is_what_the_model_would_make():
    from rahf import images

    encoded = captions_fixture.encoded(3)
    square, _, _ = decode(encoded, 8)
    expected = images.resize(images.read_image(encoded), (8, 8))
    np.testing.assert_array_equal(square, expected)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="nothing is done there")
def test_memory_is_kept_for_the_next_picture():
    """Else the system clears it page by page."""
    code = """
import resource
import numpy as np
from rahf.inference.decode import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        kept = [np.ones((512 * n, 512, 3), np.uint8) for n in (1, 2, 3)]
        del kept
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 50

before = faults()
keep_memory()
faults()
print(before, faults())
"""
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    before, after = map(float, done.stdout.split())
    assert after < 10 < before
