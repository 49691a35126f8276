"""Predictions on disk are measured as the checkpoint that made them is."""

import json

import numpy as np
import pytest

from rahf import images, targets
from rahf.bin import eval_heatmaps, eval_keywords, eval_scores, export_scenes, report
from rahf.bin import predict as predict_bin
from rahf.bin import score as score_bin
from rahf.checkpoints import restore
from rahf.evaluation.evaluate import Results
from rahf.evaluation.split import SplitEvaluator
from tests.support import tiny

RECORDS = 6
BINARIES = {
    targets.Kind.HEATMAP: ("heatmaps", eval_heatmaps),
    targets.Kind.SCORE: ("scores", eval_scores),
    targets.Kind.WORDS: ("keywords", eval_keywords),
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = tiny.config()
    config.input.image_size = 64
    return tiny.write_workdir(tmp_path_factory.mktemp("run"), config)


@pytest.fixture(scope="module")
def made(workdir, tmp_path_factory):
    """The first scenes of the test split, predicted by both binaries."""
    folder = tmp_path_factory.mktemp("made")
    export_scenes.main(
        [f"--output={folder}/scenes", f"--examples={RECORDS}", "--size=64"]
    )
    common = [f"--checkpoint={workdir}", "--batch_size=3"]
    sources = [*common, f"{folder}/scenes", "--overlays=off"]
    predict_bin.main([*sources, f"--output={folder}/predict"])
    shard = folder / "shard.jsonl"
    lines = (folder / "scenes" / "prompts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    shard.write_text(
        "".join(
            json.dumps(row | {"image": f"{folder}/scenes/{row['image']}"}) + "\n"
            for row in rows
        )
    )
    score = [*common, str(shard), "--heatmaps=native", "--decoders=0"]
    score_bin.main([*score, f"--output={folder}/score"])
    return folder


@pytest.fixture(scope="module")
def by_checkpoint(workdir):
    config, params, _ = restore.restore_for_inference(workdir)
    evaluator = SplitEvaluator(config, split="test", examples=RECORDS)
    return evaluator(params, progress=False).metrics


@pytest.mark.parametrize("kind", BINARIES, ids=lambda kind: kind.value)
@pytest.mark.parametrize("which", ["predict", "score"])
def test_the_numbers_are_those_of_the_checkpoint(
    made, workdir, by_checkpoint, kind, which, tmp_path, capsys
):
    name, binary = BINARIES[kind]
    flags = [f"--predictions={made / which}", f"--output={tmp_path}"]
    binary.main([*flags, f"--examples={RECORDS}"])
    found = Results.read(tmp_path / f"{name}.json")
    assert found.facts["labels"] == str(workdir)  # which the lines name
    assert found.facts["matched"] == RECORDS
    assert found.facts["labelled_without_prediction"] == 0
    assert "labels of" in capsys.readouterr().out
    for row in targets.select(targets.FEEDBACK, kind):
        expected = by_checkpoint[row.name]
        # Heatmaps have 8 bits on disk; their ranks have ties then.
        loose = {"auc_judd": 0.02, "kld": 0.02, "nss": 0.05}
        assert found.metrics[row.name].keys() == expected.keys()
        for metric, value in found.metrics[row.name].items():
            rounding = 0.005 if kind is targets.Kind.HEATMAP else 2e-5
            assert value == pytest.approx(
                expected[metric], abs=loose.get(metric, rounding)
            ), metric


def test_the_report_shows_them(made, tmp_path, capsys):
    page = tmp_path / "page.html"
    report.main(
        [f"--predictions={made / 'predict'}", "--examples=2", f"--output={page}"]
        + [f"--eval_examples={RECORDS}"]
    )
    text = page.read_text("utf-8")
    assert text.count("<article") == 2
    assert f"{RECORDS:,} of {RECORDS:,} labelled" in text
    assert "truth" in text[text.index("<article") :]
    assert (made / "predict" / "eval" / "test" / "all.json").is_file()
    mine = [f"--predictions={made / 'predict'}", "--prompt=x", "x.png"]
    with pytest.raises(SystemExit, match="are predicted by a checkpoint"):
        report.main(mine)


@pytest.fixture
def other_tool(made, tmp_path):
    """Half of the images, with scores, words and one PNG, as another tool writes."""
    rows = []
    for number, line in enumerate(
        (made / "scenes" / "prompts.jsonl").read_text().splitlines()[:3]
    ):
        row = json.loads(line)
        words = row["prompt"].split()
        row = {"image": f"somewhere/{row['image']}", "scores": {"overall": 0.25}}
        if number < 2:
            row["words"] = [{"text": word, "misaligned": True} for word in words]
        rows.append(row)
    images.write_heatmap(tmp_path / "0.png", np.zeros((16, 16), np.float32))
    rows[0]["heatmaps"] = {"implausibility": "0.png"}
    rows.append({"id": "unknown", "scores": {"overall": 0.5, "mine": 1}})
    return rows


def _write(folder, rows):
    path = folder / "theirs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_another_tools_lines_are_matched_by_path(other_tool, workdir, tmp_path, capsys):
    path = _write(tmp_path, other_tool)
    flags = [f"--predictions={path}", f"--labels={workdir}", f"--examples={RECORDS}"]
    eval_scores.main(flags)
    printed = capsys.readouterr().out
    assert "3 of 6 labelled images have no prediction and are not measured" in printed
    assert "1 predictions are of no labelled image" in printed
    assert f"plausibility: not measured, {path} has no predictions of it" in printed
    found = Results.read(tmp_path / "eval" / "test" / "scores.json")
    assert list(found.metrics) == ["overall"]
    assert found.metrics["overall"]["n"] == 3
    eval_heatmaps.main(flags)
    found = Results.read(tmp_path / "eval" / "test" / "heatmaps.json")
    assert found.metrics["implausibility"]["n"] == 1
    printed = capsys.readouterr().out
    assert "implausibility: 2 predictions of labelled images lack it" in printed
    eval_keywords.main(flags)
    found = Results.read(tmp_path / "eval" / "test" / "keywords.json")
    assert found.metrics["misaligned_words"]["n"] == 2
    assert found.metrics["misaligned_words"]["precision_micro"] == 0


def test_labels_of_a_config(other_tool, tmp_path, capsys):
    rows = [row | {"prompt": "another"} for row in other_tool[:1]]
    path = _write(tmp_path, rows)
    flags = [f"--predictions={path}", "--labels=scenes_multihead", "--examples=2"]
    # Its scenes are another dataset, so that no name is one of theirs.
    with pytest.raises(SystemExit, match="none of its 1 predictions is of an image"):
        eval_scores.main(flags)
    theirs = ["--set=input.scenes.difficulty=full", f"--output={tmp_path}"]
    with pytest.raises(SystemExit, match="was judged against prompt 'another'"):
        eval_scores.main([*flags, *theirs])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores": {"overall": 3.5}},
            r"score 'overall': expected a number in \[0, 1\]",
        ),
        ({"scores": {"overall": "x"}}, "expected a finite number, got 'x'"),
        ({"scores": [1]}, 'expected {"id": the image\'s name'),
        ({"words": [{"text": "no"}]}, "KeyError"),
        ({"words": [{"text": "no", "probability": 0.5}]}, "expected the words"),
        ({"image": ""}, "neither id nor image names the image"),
        (
            {"heatmaps": {"implausibility": "gone.png"}},
            "heatmap 'implausibility'.*gone",
        ),
    ],
)
def test_malformed_lines_are_named(other_tool, workdir, tmp_path, change, message):
    path = _write(tmp_path, [other_tool[0] | change])
    flags = [f"--predictions={path}", f"--labels={workdir}", f"--examples={RECORDS}"]
    with pytest.raises(SystemExit, match=f"line 1: .*{message}|line 1: {message}"):
        report.main([*flags[:2], "--examples=0", f"--eval_examples={RECORDS}"])


def test_ids_and_checkpoints_are_told_apart(other_tool, workdir, tmp_path):
    twice = [other_tool[0], other_tool[0]]
    mixed = [row | {"checkpoint": f"W, step {n}"} for n, row in enumerate(other_tool)]
    for rows, message in (
        (twice, "line 2: id 'scenes-.*' appears twice, first in .*line 1"),
        (mixed, "expected predictions of checkpoint 'W, step 0'"),
        ([{"id": "a", "error": "broken"}], r"no predicted images \(1 could not be"),
    ):
        with pytest.raises(SystemExit, match=message):
            eval_scores.main([f"--predictions={_write(tmp_path, rows)}"])
    path = _write(tmp_path, other_tool)
    for flags, message in (
        ([], "They name no workdir; name one, or a config, with --labels"),
        (["--labels=nothing"], "--labels=nothing: no workdir; as a config: no file"),
    ):
        with pytest.raises(SystemExit, match=message):
            eval_scores.main([f"--predictions={path}", *flags])
    path = _write(
        tmp_path, [row | {"checkpoint": "/gone, step 3"} for row in other_tool]
    )
    with pytest.raises(SystemExit, match="the workdir /gone that they name is not"):
        eval_scores.main([f"--predictions={path}"])
