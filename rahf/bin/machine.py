"""Prints how fast this machine multiplies matrices, and which processor it has.

    python -m rahf.bin.machine

Use it to compare times measured on two machines: with the same number of cores, one may
be twice as fast as the other, or busy.
"""

import argparse
import os
import time
from collections.abc import Sequence

from rahf.checkpoints.sessions import describe_processor

THREADS, SIZE, REPEATS = 2, 1024, 10


def measure_matmul() -> float:
    """Returns the best rate of a few float32 products of 1024 x 1024 matrices, in
    GFLOP/s."""
    import numpy as np  # BLAS reads the number of threads on import

    factor = np.random.default_rng(0).random((SIZE, SIZE), np.float32)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        np.matmul(factor, factor)
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / min(seconds) / 1e9


def main(argv: Sequence[str] | None = None) -> None:
    plain = argparse.RawDescriptionHelpFormatter
    name = "python -m rahf.bin.machine"
    parser = argparse.ArgumentParser(name, description=__doc__, formatter_class=plain)
    parser.parse_args(argv)
    for library in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM"):
        os.environ[f"{library}_NUM_THREADS"] = str(THREADS)
    print(
        f"machine: {measure_matmul():.0f} GFLOP/s of float32 matrices on {THREADS} "
        f"threads, {os.cpu_count()} cores, {describe_processor()}"
    )


if __name__ == "__main__":
    main()
