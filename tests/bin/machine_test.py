"""The line by which times of different machines are read."""

import re
import subprocess
import sys

from rahf.bin import machine


def test_it_prints_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "rahf.bin.machine"],
        capture_output=True,
        text=True,
        check=True,
    )
    pattern = (
        r"machine: (\d+) GFLOP/s of float32 matrices on 2 threads, \d+ cores, .+\n"
    )
    speed = re.fullmatch(pattern, done.stdout)
    assert speed and int(speed[1]) > 0
    assert not done.stderr


def test_the_processor_is_named_with_its_widest_vectors(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("model name\t: AMD EPYC\nflags\t\t: fpu sse4_2 avx avx2\n\n")
    assert machine.describe_processor(path) == "AMD EPYC, avx2"
    assert machine.describe_processor(tmp_path / "none")
