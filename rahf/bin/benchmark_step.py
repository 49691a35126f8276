"""Measures how fast this machine trains, for each combination of settings.

    python -m rahf.bin.benchmark_step --config=scenes_demo --batch=64,128
    python -m rahf.bin.benchmark_step --config=rahf_base --batch=8,32 --heads=light,paper \
        --dtype=bfloat16 --remat=none,full --output=step.json

One line each: examples a second, the share of a measured peak of matrix products that
useful operations take (what is computed again to save memory is not useful), the memory
that the compiler sets aside on a device, and the time to compile. What is not given
stays as the config has it. Images and parameters are random.
"""

from collections.abc import Sequence

from rahf.bin import speed_flags


def main(argv: Sequence[str] | None = None) -> None:
    speed_flags.run("benchmark_step", __doc__, argv)


if __name__ == "__main__":
    main()
