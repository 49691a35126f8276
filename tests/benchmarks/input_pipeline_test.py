"""The benchmark of the input, as a user calls it, at a small size."""

import importlib.util
import itertools
import json
import types

import pytest

from rahf.benchmarks import flops, input_pipeline
from rahf.bin import benchmark_input
from tests.support import tiny


def test_rates(capsys, monkeypatch):
    """By a clock that goes on by a second each time it is read."""
    clock = types.SimpleNamespace(process_time=itertools.count().__next__)
    monkeypatch.setattr(input_pipeline, "time", clock)
    benchmark_input.main(["--examples=32", "--sizes=96", "--image_size=64"])
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == 96 and 1 < found["kilobytes"] < 28
    for name in ("score", "heatmap", "score_augmented", "heatmap_augmented"):
        assert found[name] == 32  # examples, in a second
    steps = found["milliseconds"]
    batch, ask = steps.pop("convert"), steps.pop("ask")
    assert (batch, ask) == (1000 / input_pipeline._BATCH, 0)  # ask is without tokenise
    assert {"decode", "resize", "tokenise", "augment"} < steps.keys()
    assert set(steps.values()) == {1000}
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
    config.task.targets = ("overall", "misaligned_words")
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
    line = found["8 x h100"]
    rate = 16 * 0.4 * 8 * 989e12 / counted[1]
    assert line["examples_per_second"] == pytest.approx(rate, abs=0.1)
    assert line["cores"] == pytest.approx(rate / 100, abs=0.1)
    with pytest.raises(ValueError, match="utilisation=2 must be in"):
        flops.needed(config, 2, 100.0)
