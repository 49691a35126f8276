"""Measures how fast this machine predicts, for each combination of settings.

    python -m rahf.bin.benchmark_predict --config=scenes_demo --batch=1,64
    python -m rahf.bin.benchmark_predict --config=rahf_base --batch=1,8 \
        --heads=light,paper --variant=multihead,augmented --output=predict.json

One line each, for all heatmaps, scores and words together: examples a second, the share
of a measured peak of matrix products, the memory that the compiler sets aside on a
device, and the time to compile. What is not given stays as the config has it. Images,
prompts (of 32 pieces) and parameters are random. Reading images and writing results are
not measured.
"""

from collections.abc import Sequence

from rahf.bin import speed_flags


def main(argv: Sequence[str] | None = None) -> None:
    speed_flags.run("benchmark_predict", __doc__, argv)


if __name__ == "__main__":
    main()
