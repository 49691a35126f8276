"""The line by which times of different machines are read."""

import re
import subprocess
import sys


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
