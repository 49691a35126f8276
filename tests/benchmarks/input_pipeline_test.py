"""The benchmark of the input, as a user calls it, at a small size."""

import importlib.util
import json

import pytest

from rahf.benchmarks import flops
from rahf.bin import benchmark_input
from tests.support import tiny


def test_rates(capsys):
    benchmark_input.main(["--examples=32", "--sizes=96", "--image_size=64"])
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == 96 and 1 < found["kilobytes"] < 28
    for name in ("score", "heatmap", "score_augmented", "heatmap_augmented"):
        assert found[name] > 0
    steps = found["milliseconds"]
    assert all(value >= 0 for value in steps.values())
    assert steps["decode"] > 0 and steps["resize"] > 0 and steps["augment"] > 0
    # The steps of an example with a map take no longer than the whole of it, noise
    # of a busy machine aside.
    assert sum(steps.values()) < 3 * 1000 / found["heatmap"]
    assert ("torch" in found) == bool(importlib.util.find_spec("torch"))


def test_errors(capsys):
    for arguments, message in (
        (["--sizes=x"], "argument --sizes: invalid sizes value: 'x'"),
        (
            ["--needed", "--config=rahf_bass", "--examples=16"],
            "did you mean 'rahf_base'",
        ),
    ):
        with pytest.raises(SystemExit):
            benchmark_input.main(arguments)
        assert message in capsys.readouterr().err


def test_what_a_step_needs():
    config, counted = tiny.config(), []
    for size in (8, 16):
        config.input.batch_size = size
        counted.append(flops.train_step_flops(config))
    parameters = 2e5  # about; each is used for many tokens, three times
    assert counted[0] > 8 * 6 * parameters
    assert 1.7 < counted[1] / counted[0] < 2.1
    config.optimizer.accumulation = 4  # the same work, in parts
    assert flops.train_step_flops(config) == pytest.approx(counted[1], rel=0.05)
    config.optimizer.accumulation = 1
    found = {line["host"]: line for line in flops.needed(config, 0.4, 100.0)}
    line = found["8 x H100"]
    rate = 16 * 0.4 * 8 * 989e12 / counted[1]
    assert line["examples_per_second"] == pytest.approx(rate, abs=0.1)
    assert line["cores"] == pytest.approx(rate / 100, abs=0.1)
    with pytest.raises(ValueError, match="utilisation=2 must be in"):
        flops.needed(config, 2, 100.0)
