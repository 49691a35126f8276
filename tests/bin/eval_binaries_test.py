"""The eval binaries and the report, as a user calls them, on an untrained model."""

import json
import re
import shutil
import types

import jax
import pytest
from PIL import Image

import rahf
from rahf import targets
from rahf.bin import eval_heatmaps, eval_keywords, eval_scores, report
from rahf.checkpoints import restore
from rahf.evaluation.evaluate import Results
from rahf.evaluation.split import SplitEvaluator
from rahf.reports import checkpoint_page
from tests.support import tiny

RECORDS = 5
STEP = 3
BINARIES = {
    targets.Kind.HEATMAP: ("heatmaps", eval_heatmaps),
    targets.Kind.SCORE: ("scores", eval_scores),
    targets.Kind.WORDS: ("keywords", eval_keywords),
}


def config_of(variant):
    config = tiny.config(variant)
    config.input.image_size = 64  # the smallest that scenes are drawn at
    if variant == "multihead":  # with a target that no binary measures
        config.task.name = "scenes_multihead_word_presence"
        config.task.targets = (*config.task.targets, "word_presence")
        config.model.word_presence = True
    return config


@pytest.fixture(scope="module", params=["multihead", "augmented"])
def workdir(request, tmp_path_factory):
    """A workdir with one checkpoint, its parameters noise: no training to wait for."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny.write_workdir(folder, config_of(request.param), STEP)
    line = {"step": STEP, "train/loss": 1.5, "eval/plausibility/plcc": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return folder


@pytest.fixture(scope="module")
def whole(workdir):
    """All targets evaluated from Python."""
    config, params, _ = restore.restore_for_inference(workdir)
    evaluator = SplitEvaluator(config, split="test", examples=RECORDS)
    return evaluator(params, progress=False)


@pytest.mark.parametrize("kind", BINARIES, ids=lambda kind: kind.value)
def test_a_binary_prints_and_writes_what_python_finds(
    workdir, whole, kind, capsys, tmp_path
):
    name, binary = BINARIES[kind]
    binary.main(
        [f"--checkpoint={workdir}", f"--examples={RECORDS}", "--batch_size=3"]
        + [f"--output={tmp_path}"]
    )
    printed = capsys.readouterr().out
    found = Results.read(tmp_path / f"{name}.json")
    rows = targets.select(targets.FEEDBACK, kind)
    assert list(found.metrics) == [row.name for row in rows]
    for row in rows:
        assert row.name in printed
        assert found.metrics[row.name]["n"] == RECORDS
        # Another batch size compiles to other sums: equal but for rounding.
        assert found.metrics[row.name] == pytest.approx(
            whole.metrics[row.name], abs=1e-4
        )
    assert found.facts["step"] == STEP
    assert (found.facts["split"], found.convention) == ("test", "rahf")
    lines = (tmp_path / f"{name}.examples.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == RECORDS * len(rows)
    assert json.loads(lines[0])["uid"]


def test_the_richhf_convention_reaches_the_numbers(workdir, whole, tmp_path):
    eval_heatmaps.main(
        [f"--checkpoint={workdir}", f"--examples={RECORDS}", f"--output={tmp_path}"]
        + ["--convention=richhf"]
    )
    found = Results.read(tmp_path / "heatmaps.json")
    assert found.convention == "richhf"
    name = next(iter(found.metrics))
    assert found.metrics[name]["mse"] == pytest.approx(whole.metrics[name]["mse"])
    assert found.metrics[name]["auc_judd"] < whole.metrics[name]["auc_judd"]


def test_the_report_evaluates_once_and_shows_the_examples(workdir, capsys):
    flags = [f"--checkpoint={workdir}", "--examples=2", f"--eval_examples={RECORDS}"]
    report.main(flags)
    page = (workdir / "report.html").read_text("utf-8")
    rows = targets.select(targets.FEEDBACK)
    assert page.count("<article") == 2
    # The image, then each heatmap beside its truth.
    heatmaps = sum(row.kind == targets.Kind.HEATMAP for row in rows)
    assert page.count("data:image/jpeg") == 2 * (1 + 2 * heatmaps)
    assert len(re.findall(r'aria-label="predicted [^"]+, truth', page)) == 2 * sum(
        row.kind == targets.Kind.SCORE for row in rows
    )
    assert "likely misaligned" in page
    assert "shown words" not in page  # they only teach the others
    assert "all.json" in capsys.readouterr().out
    report.main(flags)  # finds the results that it left
    assert "all.json" not in capsys.readouterr().out
    assert (workdir / "report.html").read_text("utf-8") == page
    shutil.rmtree(workdir / "eval")


def test_the_report_of_a_users_images_has_no_truth(
    workdir, monkeypatch, tmp_path, capsys
):
    results = {row.name: {"n": 0} for row in targets.select(targets.FEEDBACK)}
    step = {"split": "test", "step": STEP, "examples": 0}
    Results(results, facts=step).write(workdir / "eval" / "test")
    picture = tmp_path / "mine.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    word = types.SimpleNamespace(text="a", probability=0.75, misaligned=True)
    prediction = types.SimpleNamespace(
        scores={"overall": 0.5},
        heatmaps={},
        words=[word, word],
        intervals={},
        distance=99.6,
    )
    predictor = types.SimpleNamespace(
        predict=lambda images, prompts: [prediction], targets=()
    )
    loaded = []
    load = lambda *which: loaded.append(which) or predictor
    monkeypatch.setattr(checkpoint_page, "load", load)
    page = tmp_path / "page.html"
    report.main(
        [f"--checkpoint={workdir}", f"--output={page}", "--prompt=a boat"]
        + ["--examples=1", str(picture), str(picture)]
    )
    assert "1 of 2 images; --examples=2 shows all" in capsys.readouterr().out
    text = page.read_text("utf-8")
    assert text.count("<article") == text.count("data:image/jpeg") == 1
    assert "boat<small>.75</small></mark>" in text
    assert "raters" not in text[text.index("<article") :]
    assert "than 100 % of those" in text
    assert loaded == [(workdir, STEP)] or loaded == [(str(workdir), STEP)]
    shutil.rmtree(workdir / "eval")


def test_clear_errors(workdir, tmp_path):
    for flags, message in (
        ([f"--checkpoint={tmp_path}"], "is not a workdir"),
        ([f"--checkpoint={workdir}", "--step=9"], rf"no step 9; it has \[{STEP}\]"),
        ([f"--checkpoint={workdir}", "--split=mine", "--examples=1"], "mine"),
        ([f"--checkpoint={workdir}", "--split=", "--examples=1"], "unknown split ''"),
    ):
        with pytest.raises(SystemExit, match=message):
            eval_scores.main(flags)
    page = [f"--checkpoint={workdir}", "--examples=0", "--ceiling=/none.json"]
    with pytest.raises(SystemExit, match="error: /none.json: No such file"):
        report.main([*page, "--eval_examples=1"])
    (tmp_path / "ceiling.json").write_text("[1]")
    with pytest.raises(SystemExit, match="error: --ceiling=.*: expected the JSON file"):
        report.main([*page[:-1], f"--ceiling={tmp_path}/ceiling.json"])
    shutil.rmtree(workdir / "eval")


def test_a_steps_folder_is_its_workdir(workdir, capsys):
    place = workdir / "checkpoints" / str(STEP)
    eval_scores.main([f"--checkpoint={place}", "--examples=2", "--batch_size=2"])
    assert Results.read(workdir / "eval" / "test" / "scores.json").facts["checkpoint"]
    report.main([f"--checkpoint={place}", "--examples=0", "--eval_examples=2"])
    assert "1.5" in (workdir / "report.html").read_text("utf-8")  # its metrics.jsonl
    assert not (place / "eval").exists() and not (place / "report.html").exists()
    for binary in (eval_scores, report):
        with pytest.raises(SystemExit, match=f"is step {STEP}, but step='4' was"):
            binary.main([f"--checkpoint={place}", "--step=4"])
    shutil.rmtree(workdir / "eval")


def test_ctrl_c_is_one_line(workdir, monkeypatch, capsys):
    def interrupt(request):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_page, "write_checkpoint_page", interrupt)
    with pytest.raises(SystemExit) as stop:
        report.main([f"--checkpoint={workdir}"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--examples=-3", "-3 is less than 0"),
        ("--batch_size=0", "0 is less than 1"),
        ("--step=last", "'last': expected a step, latest or best"),
    ],
)
def test_flags_out_of_range(flag, message, workdir, capsys):
    with pytest.raises(SystemExit):
        eval_scores.main([f"--checkpoint={workdir}", flag])
    assert message in capsys.readouterr().err


def test_a_model_without_the_kind(workdir):
    config = config_of("multihead")
    config.task.targets = tuple(
        row.name for row in targets.select(targets.FEEDBACK, targets.Kind.SCORE)
    )
    with pytest.raises(ValueError, match="none of them is of kind heatmap"):
        SplitEvaluator(config, kind=targets.Kind.HEATMAP)


@pytest.mark.parametrize("binary", [eval_heatmaps, eval_scores, eval_keywords, report])
def test_help_teaches(binary, capsys):
    with pytest.raises(SystemExit) as stop:
        binary.main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "--checkpoint" in printed
    assert binary.__doc__.strip().splitlines()[0] in printed


def test_evaluation_in_the_loop_compiles_once(workdir):
    config, params, _ = restore.restore_for_inference(workdir)
    evaluator = SplitEvaluator(config, split="dev", examples=2)
    first = evaluator(params, progress=False)
    compiled = [each._cache_size() for _, each in evaluator._passes]
    moved = jax.tree.map(lambda x: x * 1.5, params)
    second = evaluator(moved, progress=False)
    assert [each._cache_size() for _, each in evaluator._passes] == compiled
    assert first.metrics != second.metrics


def test_a_model_without_words_says_so(tmp_path, capsys):
    """The binaries of a script follow each other; this one has nothing to do."""
    config = config_of("multihead")
    config.task.name = "scenes_without_words"
    config.task.targets = targets.FEEDBACK[:-1]
    config.input.prompts = "none"
    config.model.word_presence = False
    config.model.variant = "image"
    tiny.write_workdir(tmp_path, config)
    eval_keywords.main([f"--checkpoint={tmp_path}"])
    said = capsys.readouterr().out
    assert "nothing to measure, and nothing written" in said
    assert "overall: none of them is of kind words" in said
    assert not (tmp_path / "eval").exists()
    picture = Image.new("RGB", (80, 60), "red")
    [found] = rahf.load(tmp_path).predict([picture], ["a red cat, " * 40])
    assert found.words == [] and not found.prompt_truncated
    assert set(found.scores) | set(found.heatmaps) == set(config.task.targets)
