"""The oracle reaches the ceiling that the dataset was tuned for, raters less."""

import json

import pytest

from rahf.bin import benchmark_scenes, scenes_ceiling
from rahf.datasets.scenes import Scenes, grammar
from rahf.evaluation.scenes_ceiling import compute_ceiling


@pytest.mark.parametrize("difficulty", grammar.DIFFICULTIES)
def test_ceiling(difficulty):
    found = compute_ceiling(
        Scenes("test", 64, difficulty=difficulty, num_examples=150), progress=False
    )
    for name, least in (
        ("plausibility", 0.95),
        ("alignment", 0.95),
        ("aesthetics", 0.92),
        ("overall", 0.88),
    ):
        oracle_plcc = found[f"oracle {name}"]["plcc"]
        assert least < oracle_plcc < 1
        assert found[f"rater {name}"]["plcc"] < oracle_plcc
    assert found["oracle implausibility"]["cc"] > 0.87
    assert found["oracle misalignment"]["cc"] > 0.8
    assert 0.94 < found["oracle misaligned_words"]["f1_micro"] < 1
    assert found["rater misaligned_words"]["f1_micro"] < 0.95


def test_binaries_run(capsys, tmp_path):
    benchmark_scenes.main(["--size=64", "--scenes=20"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["difficulty"] for line in lines] == list(grammar.DIFFICULTIES)
    assert all(line["scenes_per_second_per_core"] > 0 for line in lines)
    output = tmp_path / "ceiling.json"
    scenes_ceiling.main(["--size=64", "--examples=20", f"--output={output}"])
    assert "oracle plausibility" in capsys.readouterr().out
    assert json.loads(output.read_text())["oracle plausibility"]["n"] == 20
    for main in (benchmark_scenes.main, scenes_ceiling.main):
        with pytest.raises(SystemExit):
            main(["--size=63"])
        assert "64 to 512" in capsys.readouterr().err
