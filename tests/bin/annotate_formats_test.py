"""`annotate export` and `annotate import` as their users call them."""

import json

import pytest

from rahf.annotation import store
from rahf.annotation.assignment import AssignmentRules, take
from rahf.annotation.records import Feedback, RatingTask
from rahf.bin import annotate
from tests.support import rapidata_files, raters_files


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_from_a_workdir_to_label_studio_and_back(tmp_path, capsys):
    raters_files.write_images(tmp_path / "p")
    workdir = tmp_path / "w"
    with store.open_store(workdir) as opened:
        sizes = raters_files.SIZES
        tasks = [(RatingTask(image=n, prompt="a cat"), *s) for n, s in sizes.items()]
        opened.add_images(tasks, raters=3)
        opened.add_rater("r1")
        for number in range(len(sizes)):
            id_ = take(opened, "r1", AssignmentRules())
            assert id_
            point = ((1 / 3, 2.0),)
            label = Feedback(misaligned_points=point, scores={"overall": 1 + number})
            event = store.Event(id="e", kind="answer", label=label, seconds=1.25)
            opened.save(id_, "r1", [event], lease=9)
    for form in ("jsonl", "label_studio", "coco"):
        output = tmp_path / f"{form}.json"
        annotate.main(
            ["export", f"--workdir={workdir}", f"--format={form}", f"--output={output}"]
        )
        assert f"{output}: 4 answers" in capsys.readouterr().out
    back = tmp_path / "back.jsonl"
    flags = ["--format=label_studio", f"--images={tmp_path / 'p'}", f"--output={back}"]
    annotate.main(["import", str(tmp_path / "label_studio.json"), *flags])
    assert "4 ratings of 4 images by 1 raters\n" in capsys.readouterr().out
    assert _lines(back) == _lines(tmp_path / "jsonl.json")
    again = tmp_path / "again.json"
    annotate.main(
        ["export", f"--ratings={back}", f"--images={tmp_path / 'p'}", "--format=coco"]
        + [f"--output={again}"]
    )
    assert again.read_text() == (tmp_path / "coco.json").read_text()


def test_rapidata_becomes_a_dataset(tmp_path, capsys):
    source = tmp_path / "x.parquet"
    rapidata_files.write(source, rapidata_files.make_row())
    words = ["import", str(source), "--format=rapidata"]
    with pytest.raises(SystemExit):
        annotate.main([*words, f"--output={tmp_path}/ratings.jsonl"])
    assert "sums over raters" in capsys.readouterr().err
    flags = [f"--output={tmp_path / 'data'}", "--dev_share=0", "--test_share=0"]
    annotate.main([*words, *flags])
    assert "1 images (train 1)" in capsys.readouterr().out
    assert (tmp_path / "data/consolidated/1.0.0").is_dir()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("export --output=x", "needs --workdir, or --ratings"),
        ("export --output=x --workdir=w --ratings=r --images=.", "needs --workdir, or"),
        ("export --output=x --ratings=r", "--ratings needs --images"),
        ("import x --format=cvat --output=x", "needs --images"),
        ("import x --format=cvat --images=. --output=x --labels=a", "LABEL:FIELD"),
        ("import x y --format=rapidata --output=x", "give one Parquet file"),
    ],
)
def test_flags_that_do_not_fit_together(words, error, capsys):
    with pytest.raises(SystemExit):
        annotate.main(words.split())
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--labels=a:b"], "--labels=a:b: expected one of implausible_points"),
        (["--fields=b"], "--fields=b: expected some of implausible_points"),
        (["--images=/nowhere"], "--images=/nowhere: no such folder"),
        ([], "no such file"),
    ],
)
def test_options_that_mean_nothing(tmp_path, flags, error):
    words = ["import", str(tmp_path / "x"), "--format=cvat", f"--images={tmp_path}"]
    with pytest.raises(SystemExit, match=error):
        annotate.main([*words, f"--output={tmp_path}/r.jsonl", *flags])
    assert not (tmp_path / "r.jsonl").exists()
