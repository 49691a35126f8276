"""Measured speed: what is run, and what is said of it."""

import json

import pytest

from rahf.benchmarks import speed, utilisation
from rahf.bin import benchmark_predict, benchmark_step, shipped
from tests.support import tiny


@pytest.fixture(autouse=True)
def _small_peak(monkeypatch):
    monkeypatch.setattr(utilisation, "_SIDES", {"cpu": 64})


def test_a_sweep_has_every_combination():
    found = list(speed.sweep([1, 2], variant=[None], heads=["light", "paper"]))
    assert [(s.batch, s.heads) for s in found] == [
        (1, "light"),
        (1, "paper"),
        (2, "light"),
        (2, "paper"),
    ]
    config = tiny.config()
    config.lock()
    changed = speed.Setting(3, "augmented", "paper", "bfloat16", "dots").apply(config)
    m = changed.model
    assert changed.input.batch_size == 3 and config.input.batch_size == 8
    assert (m.variant, m.dtype, m.remat, m.remat_policy) == (
        "augmented",
        "bfloat16",
        True,
        "dots",
    )
    assert m.heatmap_head.name == m.score_head.name == "paper"
    assert speed.Setting(8).apply(config) == config


def test_a_step():
    found = speed.measure_step(tiny.config(), repeats=2)
    assert (found.batch, found.remat, found.heads) == (8, "none", "light")
    assert found.examples_per_second == pytest.approx(8 / found.seconds)
    useful = utilisation.training_flops(tiny.config())
    assert found.gigaflops == pytest.approx(useful / 1e9)
    assert found.utilisation > 0 and found.memory_gib > 0 and found.compile_seconds > 0


def test_free_decoding_cannot_be_measured():
    config = tiny.config()
    config.model.decoding = "free"
    with pytest.raises(ValueError, match="decoding='free' partly runs on the host"):
        speed.measure_predict(config, 1)


def test_the_command_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "load", lambda name: tiny.config())
    file = tmp_path / "found.json"
    arguments = ["--batch=2", "--variant=multihead,augmented", "--repeats=1"]
    benchmark_predict.main([*arguments, f"--output={file}", "--text_length=12"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["batch", "2", "2"]
    written = json.loads(file.read_text())
    plain, augmented = written["results"]
    assert (plain["variant"], augmented["variant"]) == ("multihead", "augmented")
    assert augmented["gigaflops"] > 1.5 * plain["gigaflops"] > 0


def test_mistakes(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "load", lambda name: tiny.config())
    with pytest.raises(SystemExit, match="--heads=huge: expected some of light, paper"):
        benchmark_step.main(["--heads=light,huge"])
    with pytest.raises(SystemExit, match="batch_size=3 must be a multiple of 8"):
        benchmark_step.main(["--batch=3"])
    with pytest.raises(SystemExit):
        benchmark_step.main([f"--output={tmp_path}/missing/found.json"])
