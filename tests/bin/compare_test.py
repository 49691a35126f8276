"""rahf.bin.compare, as a user calls it, on untrained models."""

import json
import re

import pytest

from rahf.bin import compare, export_scenes
from rahf.bin import predict as predict_bin
from tests.support import tiny

RECORDS = 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two workdirs, of which one logged its training, and predictions of the first."""
    folder = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("one", "two")):
        config = tiny.config()
        config.input.image_size = 64
        config.seed = number
        tiny.write_workdir(folder / name, config, step=3 + number)
        lines = [
            {"step": step, "train/loss": 2 / step, "eval/plausibility/plcc": 0.1 * step}
            for step in (1, 2, 3)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / name / "metrics.jsonl").write_text(text)
    scenes = folder / "scenes"
    export_scenes.main([f"--output={scenes}", f"--examples={RECORDS}", "--size=64"])
    predict_bin.main(
        [f"--checkpoint={folder}/one", str(scenes), f"--output={folder}/made"]
        + ["--overlays=off"]
    )
    return folder


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "deep"
    compare.main(
        [f"{runs}/one", f"{runs}/two", f"{runs}/made", f"--examples={RECORDS}"]
        + ["--shown=3", "--resamples=60", f"--output={output}"]
    )
    return output


def test_checkpoints_and_their_predictions(written):
    found = json.loads((written / "comparison.json").read_text("utf-8"))
    assert list(found["models"]) == ["one", "two", "made"]
    assert set(found["images"].values()) == {RECORDS}
    assert not found["notes"]
    for target, of_target in found["metrics"].items():
        for metric, values in of_target.items():
            same = pytest.approx(values["one"]["value"], abs=0.05)
            assert values["made"]["value"] == same, (target, metric)
    apart = {
        (each["of"], each["minus"]): each
        for each in found["differences"]
        if (each["target"], each["metric"]) == ("overall", "mse")
    }
    assert len(apart) == 6
    assert apart["made", "one"]["value"] == pytest.approx(0, abs=1e-5)
    assert (found["level"], found["resamples"], found["baseline"]) == (0.95, 60, "one")


def test_tables_for_papers(written):
    markdown = (written / "comparison.md").read_text("utf-8")
    head, rule, *body = markdown.split("\n\n")[0].splitlines()
    assert head == "| target | metric | one | two | made | two − one | made − one |"
    assert {line.count("|") for line in (head, rule, *body)} == {8}
    assert sum("PLCC" in line for line in body) == 4
    assert all("**" in line for line in body if "PLCC" in line)
    latex = (written / "comparison.tex").read_text("utf-8")
    assert latex.count(r"\textbf{") == len(body)
    assert r"PLCC $\uparrow$" in latex and r"misaligned words" in latex
    table = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")]
    assert {line.count("&") for line in table.splitlines() if "&" in line} == {6}
    assert re.search(r"(?<!\\)[_%]", table.replace("%", "")) is None


def test_the_page(written):
    text = (written / "comparison.html").read_text("utf-8")
    assert not re.findall(r"https?://|@import|url\(", text)
    assert text.count("<article") == 3
    # Image, then truth and three models for both heatmaps.
    assert text.count("data:image/jpeg") == 3 * (1 + 2 * 4)
    data = json.loads(re.search(r'id="apart">(.*?)</script>', text)[1])
    assert data["pairs"] == [[0, 1], [0, 2], [1, 2]]
    assert len(data["apart"]) == 3
    for pairs in data["apart"]:
        assert pairs[1]["overall"] == pytest.approx(0, abs=1e-5)  # one and made
    assert text.count('<figure class="chart">') == 2
    assert text.count('class="strip" style="--n:4"') == 3 * 2
    assert "made" not in text[text.index('class="charts"') :]


def test_runs_of_one_model(runs, tmp_path, capsys):
    compare.main(
        [f"--group=both={runs}/one,{runs}/two", f"{runs}/made", "--shown=0"]
        + ["--examples=3", "--resamples=20", f"--output={tmp_path}", "--baseline=both"]
    )
    printed = capsys.readouterr().out
    assert "rank of both" in printed and "made − both" in printed
    found = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert len(found["metrics"]["overall"]["plcc"]["both"]["runs"]) == 2
    text = (tmp_path / "comparison.html").read_text("utf-8")
    assert "<article" not in text and "both 2" in text


def test_errors_are_one_line(runs, tmp_path):
    one, output = f"{runs}/one", f"--output={tmp_path}"
    for flags, message in (
        ([one], "at least two models"),
        (
            [one, f"{runs}/two", "--baseline=three"],
            "models one, two and baseline 'three'",
        ),
        (
            [one, "--shown=0", f"{runs}/gone"],
            "gone: no such file; expected the predictions.jsonl",
        ),
        (
            [one, f"{runs}/made", "--split=dev", "--examples=2"],
            "none of its 6 predictions",
        ),
    ):
        with pytest.raises(SystemExit, match=f"error: .*{message}"):
            compare.main([*flags, output])


def test_other_data_is_refused_and_labels_settle_it(runs, tmp_path, capsys):
    config = tiny.config()
    config.input.image_size = 64
    config.input.scenes.difficulty = "simple"
    tiny.write_workdir(tmp_path / "simple", config)
    both = [f"{runs}/one", f"{tmp_path}/simple", "--examples=2", "--shown=0"]
    both += ["--resamples=20", f"--output={tmp_path}/out"]
    with pytest.raises(
        SystemExit, match="share no image with .*--labels=W measures all"
    ):
        compare.main(both)
    compare.main([*both, f"--labels={runs}/two"])
    assert "2 images" in capsys.readouterr().out
