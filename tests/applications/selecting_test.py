"""rahf.bin.select, on small files; results are read by the project's own readers."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from rahf.applications import training_sets
from rahf.applications.selecting import FORMATS
from rahf.bin import select as main
from rahf.datasets import captions
from rahf.datasets.files import parquet, tar_shards
from rahf.datasets.preference_pairs import Preferences
from rahf.evaluation import preference_scores
from rahf.inference.jobs import read_jobs
from tests.support import predictions


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return predictions.write(tmp_path / "predictions")


def _select(*arguments, output="out", by="plausibility"):
    main.main(["predictions", f"--by={by}", f"--output={output}", *arguments])
    return pathlib.Path(output)


def _error(capsys, *arguments, **options):
    with pytest.raises(SystemExit) as exit_:
        _select(*arguments, **options)
    assert not pathlib.Path("out").exists()
    if not isinstance(exit_.value.code, str):  # of the parser
        return capsys.readouterr().err
    return exit_.value.code


def _lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def _chosen(out):
    lines = _lines(pathlib.Path(out, "manifest.jsonl"))
    return [line["id"] for line in lines if line["chosen"]]


def test_the_papers_rule(made, capsys):
    out = _select("--threshold=0.75")
    assert sorted(os.listdir(out)) == [
        "images",
        "manifest.jsonl",
        "request.json",
        "selection.json",
        "yield.svg",
    ]
    assert _lines(out / "images/metadata.jsonl") == [
        {"file_name": "000000000.png", "text": "a red cat"},
        {"file_name": "000000001.png", "text": "a house"},
    ]
    assert (out / "images/000000001.png").read_bytes() == (made / "4.png").read_bytes()
    reasons = [row["reason"] for row in _lines(out / "manifest.jsonl")]
    assert reasons == [
        "number 1 of 2 of its prompt, plausibility 0.9 is at least the threshold 0.75",
        "number 2 of 2 of its prompt; 1 kept",
        "number 2 of 2 of its prompt; 1 kept",
        "number 1 of 2 of its prompt, plausibility 0.7 is below the threshold 0.75",
        "number 1 of 1 of its prompt, plausibility 0.8 is at least the threshold 0.75",
    ]
    facts = json.loads((out / "selection.json").read_text())
    assert (facts["prompts_chosen"], facts["images_chosen"]) == (2, 2)
    assert facts["threshold"] == 0.75
    printed = capsys.readouterr().out
    assert "2 of 5 images, of 2 of 3 prompts; threshold 0.75" in printed
    assert "     0.75          2    66.7%          2" in printed
    assert "2 of 3 prompts keep 2 images" in (out / "yield.svg").read_text()


def test_reasons_of_other_rules(made):
    out = _select("--require=alignment=0.5", "--keep=0", "--share=0.4")
    reasons = [row["reason"] for row in _lines(out / "manifest.jsonl")]
    assert reasons == [
        "alignment 0.2 is below the required 0.5",
        "number 1 of 1 of its prompt, but not in the best 0.4 of all images",
        "number 2 of 2 of its prompt, but not in the best 0.4 of all images",
        "number 1 of 2 of its prompt",
        "number 1 of 1 of its prompt",
    ]


def test_the_control_has_the_same_prompts(made, capsys):
    out = _select("--threshold=auto:0.6")
    texts = [row["text"] for row in _lines(out / "images/metadata.jsonl")]
    drawn = []
    for seed in range(8):
        flags = ("--threshold=auto:0.6", "--control=random", f"--seed={seed}")
        control = _select(*flags, output=f"control{seed}")
        lines = _lines(control / "images/metadata.jsonl")
        assert [line["text"] for line in lines] == texts
        drawn.append(_chosen(control))
    assert _chosen(out) in drawn
    assert ["1", "4"] in drawn
    assert "drawn at random as the control" in capsys.readouterr().out
    reason = _lines("control0/manifest.jsonl")[0]["reason"]
    assert reason.endswith("at random from the images of its prompt")


def test_the_folder_is_read_by_predict_and_by_the_captions_reader(made):
    out = _select("--keep=2")
    folder = str(out / "images")
    assert [job.prompt for job in read_jobs([folder])] == [
        "a red cat",
        "a red cat",
        'a "blue", dog',
        'a "blue", dog',
        "a house",
    ]
    table = captions.captions_records("train", {"captions": {"train": folder}})
    assert isinstance(table, captions.CaptionTable)
    assert [record["prompt"] for record in table][2] == 'a "blue", dog'
    assert table[3]["image"][0, 0, 0] == 30


def test_the_shards_are_read_by_the_captions_reader(made, monkeypatch):
    monkeypatch.setattr(training_sets, "SHARD_SIZE", 2)
    out = _select("--format=shards", "--keep=2")
    urls = tar_shards.list_shards(str(out / "shards"))
    samples = [sample for url in urls for sample in tar_shards.read_shard(url)]
    assert not any(sample.fault for sample in samples)
    assert [(s.uid, s.caption) for s in samples] == [
        ("00000/000000000", "a red cat"),
        ("00000/000000001", "a red cat"),
        ("00001/000000002", 'a "blue", dog'),
        ("00001/000000003", 'a "blue", dog'),
        ("00002/000000004", "a house"),
    ]
    assert samples[3].image == (made / "3.png").read_bytes()
    assert _lines(out / "manifest.jsonl")[3]["file"] == "shards/00001.tar/000000003"


def test_the_pairs_are_read_and_agree_with_their_scores(made, monkeypatch):
    monkeypatch.setattr(training_sets, "SHARD_SIZE", 1)
    out = _select("--format=pairs", "--margin=0.3")
    files = sorted((out / "pairs").glob("train-*-of-00002.parquet"))
    assert len(files) == 2
    assert _lines(out / "manifest.jsonl")[2]["file"] == f"pairs/{files[1].name}"
    pairs = list(Preferences(out / "pairs", "train"))
    assert [pair.prompt for pair in pairs] == ["a red cat", 'a "blue", dog']
    for pair in pairs:
        files = [made / f"{uid}.png" for uid in pair.uids]
        assert pair.images == tuple(file.read_bytes() for file in files)
    assert {frozenset(pair.uids) for pair in pairs} == {
        frozenset("01"),
        frozenset("23"),
    }
    scorer = preference_scores.by_file(made / "predictions.jsonl")
    scored = preference_scores.score_pairs(
        Preferences(out / "pairs", images=False), scorer, progress=False
    )
    agreement = preference_scores.compare(scored)["plausibility"]
    assert agreement.accuracy == 1
    manifest = _lines(out / "manifest.jsonl")
    reasons = [row["reason"] for row in manifest]
    assert reasons[:2] == ["better than id '1' by 0.3", "worse than id '0' by 0.3"]
    file = parquet.open_shard(out / manifest[2]["file"], ["margin"])
    assert file.read(["margin"]).to_pydict() == {"margin": [pytest.approx(0.3)]}
    assert reasons[4] == "number 1 of 1 of its prompt, but the worst is not 0.3 lower"


def test_row_groups_are_small(made, monkeypatch):
    monkeypatch.setattr(training_sets, "_GROUP_BYTES", 1)
    file = _select("--format=pairs") / "pairs/train-00000-of-00001.parquet"
    assert parquet.open_shard(file).metadata.num_row_groups == 2


def test_the_better_one_is_on_either_side(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(f"prompt {n % 20}", {"plausibility": float(n < 20)}) for n in range(40)]
    predictions.write(tmp_path / "predictions", rows)
    labels = [p.label for p in Preferences(_select("--format=pairs") / "pairs")]
    assert 4 < sum(labels) < 16
    out = _select("--format=pairs", "--control=random", output="control")
    pairs = list(Preferences(out / "pairs"))
    assert len(pairs) == 20
    for pair in pairs:
        better = pair.uids[int(pair.label == 0)]
        assert pair.prompt == f"prompt {better}"  # the first, by no score
        assert {int(uid) % 20 for uid in pair.uids} == {int(better)}


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_command_again_writes_nothing(made, capsys, format_):
    out = _select(f"--format={format_}")
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    (made / "0.png").unlink()  # no longer needed
    _select(f"--format={format_}")
    assert "complete already; nothing was written" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == files


def test_other_flags_or_predictions_need_another_folder(made):
    _select()
    with pytest.raises(SystemExit, match="results of other predictions or flags"):
        _select("--threshold=0.1")
    predictions.edit(made, 0, scores={"plausibility": 0.91})
    with pytest.raises(SystemExit, match="results of other predictions or flags"):
        _select()


def test_an_interrupted_copy_continues(made, monkeypatch):
    copied, real = [], training_sets.shutil.copyfile

    def copy(source, target):
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(source)
        real(source, target)

    monkeypatch.setattr(training_sets.shutil, "copyfile", copy)
    with pytest.raises(SystemExit):
        _select("--keep=2")
    assert not os.path.exists("out")
    copied.clear()
    monkeypatch.setattr(
        training_sets.shutil, "copyfile", lambda a, b: (copied.append(a), real(a, b))
    )
    out = _select("--keep=2")
    assert [pathlib.Path(path).name for path in copied] == ["2.png", "3.png", "4.png"]
    assert len(_lines(out / "images/metadata.jsonl")) == 5
    assert len(os.listdir(out / "images")) == 6


def test_images_that_are_gone(made, capsys):
    (made / "0.png").unlink()
    Image.new("RGB", (5, 5)).save(made / "3.png")
    message = _error(capsys)
    assert f"{made}/0.png: no such file; {made}/3.png: the file has changed" in message
    assert "nothing was written; use --on_error=skip" in message
    assert not os.path.exists(".out.partial")
    out = _select("--on_error=skip")
    # The next best of their prompts are chosen.
    assert _chosen(out) == ["1", "2", "4"]
    manifest = _lines(out / "manifest.jsonl")
    assert manifest[0]["reason"] == "no such file"
    assert json.loads((out / "selection.json").read_text())["gone"] == 2
    control = _select("--on_error=skip", "--control=random", output="control")
    texts = [row["text"] for row in _lines(control / "images/metadata.jsonl")]
    assert texts == ["a red cat", 'a "blue", dog', "a house"]
    # Without its first image, the first prompt has none over this threshold: the
    # control leaves it out too, even where it would have drawn the second.
    for seed in range(4):
        flags = ("--threshold=0.75", "--on_error=skip", "--control=random")
        control = _select(*flags, f"--seed={seed}", output=f"control{seed}")
        texts = [row["text"] for row in _lines(control / "images/metadata.jsonl")]
        assert texts == ["a house"]


def test_a_prompt_whose_other_image_is_gone_gives_no_pair(made):
    (made / "2.png").unlink()
    out = _select("--format=pairs", "--on_error=skip")
    assert [pair.prompt for pair in Preferences(out / "pairs")] == ["a red cat"]


def test_a_prompt_whose_images_are_all_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [("gone", {"plausibility": value / 10}) for value in range(9, 3, -1)]
    folder = predictions.write(tmp_path / "predictions", [*rows, *predictions.ROWS])
    for number in range(6):
        (folder / f"{number}.png").unlink()
    for format_ in FORMATS:
        for control in ((), ("--control=random",)):
            output = f"{format_}{len(control)}"
            flags = (f"--format={format_}", "--on_error=skip", *control)
            lines = _lines(_select(*flags, output=output) / "manifest.jsonl")
            chosen = [line["prompt"] for line in lines if line["chosen"]]
            assert set(chosen) >= {"a red cat", 'a "blue", dog'}
            assert "gone" not in chosen


def test_the_control_of_a_prompt_whose_good_images_are_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = (("x", 0.9), ("x", 0.8), ("x", 0.1), ("y", 0.9))
    rows = [(prompt, {"plausibility": value}) for prompt, value in values]
    folder = predictions.write(tmp_path / "predictions", rows)
    for number in range(2):
        (folder / f"{number}.png").unlink()
    flags = ("--threshold=0.5", "--on_error=skip", "--control=random")
    for seed in range(6):  # some draw the second before the first is known to be gone
        out = _select(*flags, f"--seed={seed}", output=f"{seed}")
        lines = _lines(out / "images/metadata.jsonl")
        assert [line["text"] for line in lines] == ["y"]


def test_copies_count_once(made, capsys):
    first = _lines(made / "predictions.jsonl")[1]
    predictions.edit(made, 0, image_sha256=first["image_sha256"])
    out = _select("--keep=2")
    assert "1 copies of an image of the same prompt" in capsys.readouterr().out
    assert _lines(out / "manifest.jsonl")[1]["reason"] == "the same image as id '0'"
    assert _chosen(out) == ["0", "2", "3", "4"]


def test_equal_ids_stay_apart(made):
    for number in range(5):
        predictions.edit(made, number, id="../x y")
    pairs = list(Preferences(_select("--format=pairs") / "pairs"))
    uids = {uid for pair in pairs for uid in pair.uids}
    assert uids == {"../x y", "../x y-2", "../x y-3", "../x y-4"}


def test_names_of_files_hold_no_word_that_means_a_split(made):
    predictions.edit(made, 0, id="test-1")
    assert not list((_select() / "images").glob("*test*"))


def test_weights_of_the_loss(made, capsys):
    out = _select("--threshold=0.75", "--weigh=implausibility=0.2")
    lines = _lines(out / "images/metadata.jsonl")
    assert [line["loss_weights"] for line in lines] == [
        f"../weights/{number:09d}.png" for number in range(2)
    ]
    table = captions.captions_records(
        "train", {"captions": {"train": str(out / "images")}}
    )
    weights = table[0]["loss_weights"]
    assert weights.shape == (40, 60) and weights.dtype == np.float32
    np.testing.assert_allclose(weights[10:20, 20:30], 0.5, atol=1 / 255)
    assert weights[0, 0] == 1
    (out / "weights/000000000.png").unlink()
    with pytest.raises(
        ValueError, match=r"record '000000000.png', field 'loss_weights'"
    ):
        table[0]
    shutil.rmtree(out)
    assert "--weigh is for --format=images" in _error(
        capsys, "--weigh=implausibility", "--format=pairs"
    )
    (made / "heatmaps" / "0.implausibility.png").unlink()
    said = _error(capsys, "--weigh=implausibility", "--threshold=0.75")
    assert "0.png: has no heatmap 'implausibility' for --weigh; nothing was" in said


def test_links(made):
    out = _select("--link")
    assert os.readlink(out / "images/000000000.png") == str(made / "0.png")


def test_a_name_without_suffix_gets_the_formats(made):
    (made / "0.png").rename(made / "zero")
    predictions.edit(made, 0, image=str(made / "zero"))
    out = _select()
    assert (out / "images/000000000.png").is_file()


def test_an_image_without_prompt(made, capsys):
    predictions.edit(made, 4, prompt=" ")
    assert "has no prompt, which a training set needs" in _error(capsys)
    out = _select("--on_error=skip")
    assert len(_lines(out / "images/metadata.jsonl")) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--threshold=0.95",), "the best found is 0.9; share of the 3 prompts"),
        (("--format=pairs", "--margin=0.31"), "differs by 0.31 or more in plausib"),
        (("--format=pairs", "--keep=2"), "--keep=1"),
        (("--margin=0.1",), "--margin is for --format=pairs"),
        (("--format=shards", "--link"), "--link is for --format=images"),
        (("--threshold=x",), "--threshold=x: expected a number"),
        (("--require=sharpness=0.5",), "score 'sharpness': it has plausibility, align"),
        (("--share=0",), "--share=0 must be above 0"),
        (("--keep=-1",), "-1 is less than 0"),
    ],
)
def test_errors_write_nothing(made, capsys, flags, message):
    before = sorted(os.listdir("."))
    assert message in _error(capsys, *flags)
    assert sorted(os.listdir(".")) == before


def test_a_manifest_can_be_chosen_from_again(made):
    _select("--keep=0", "--require=alignment=0.5")
    main.main(["out/manifest.jsonl", "--by=overall", "--output=again"])
    assert _chosen("again") == ["1", "2", "4"]
    assert np.isfinite([row["value"] for row in _lines("again/manifest.jsonl")]).all()
