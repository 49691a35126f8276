"""A round over HTTP gives, label for label, what its raters' file gives without."""

import json

import numpy as np
import pytest

from rahf.annotation import load, replaying
from rahf.annotation.records import Answer, Feedback
from rahf.bin import annotate, consolidate, export_scenes
from rahf.datasets.ratings import consolidated, rating_files
from tests.support import raters_files


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    export_scenes.main([f"--output={folder}", "--examples=12", "--size=64"])
    return folder


def _records(folder):
    """The dataset's records by image and the split they are in."""
    found = {}
    for split in ("train", "dev", "test"):
        source = consolidated.Consolidated(split, folder)
        for index in range(len(source)):
            record = source[index]
            found[record["uid"]] = {"split": split, **record}
    return found


def test_what_comes_out_is_what_the_file_says(pictures, tmp_path, capsys):
    ratings = pictures / "ratings.jsonl"
    lines = [json.loads(line) for line in ratings.read_text().splitlines()]
    per_image = max(sum(a["image"] == b["image"] for a in lines) for b in lines)
    listed = pictures / "prompts.jsonl"
    rule = f"--raters={per_image}"
    with load.serving(listed, pictures, tmp_path / "w", rule) as (url, _):
        flags = [f"--images={pictures}", f"--workdir={tmp_path / 'w'}", f"--url={url}"]
        annotate.main(["replay", str(ratings), *flags, f"--raters={per_image + 1}"])
    assert f"{len(lines)} answers" in capsys.readouterr().out
    output = tmp_path / "answers.jsonl"
    annotate.main(["export", f"--workdir={tmp_path / 'w'}", f"--output={output}"])
    known = ("seconds", "scores", "implausible_points", "misaligned_words")
    both = []
    for file in (output, ratings):
        rows = [r for each in rating_files.read(file) for r in each.ratings]
        both.append(sorted(str([row[name] for name in known]) for row in rows))
    assert both[0] == both[1] and len(both[0]) == len(lines)
    data = []
    for name, file in (("served", output), ("direct", ratings)):
        flags = [f"--images={pictures}", f"--output={tmp_path / name}"]
        consolidate.main([str(file), *flags])
        data.append(_records(tmp_path / name))
    served, direct = data
    assert served.keys() == direct.keys() and len(direct) == 12
    for name, record in direct.items():
        for field, value in record.items():
            np.testing.assert_array_equal(served[name][field], value, f"{name} {field}")


def test_points_come_back_to_the_last_bit_whatever_the_sides():
    checked = 0
    for line in raters_files.make_rows(points=30):
        width, height = raters_files.SIZES[line["image"]]
        if not all(line.get(name) is not None for name in replaying.NEEDED):
            continue
        size = {"width": width, "height": height}
        *_, answer = replaying._events(line | {"notes": ""}, size)
        label = Feedback.from_json(
            answer["label"] | {"scores": {}},
            prompt=line["prompt"],
            complete=False,
            **size,
        )
        names = {name: line[name] for name in ("image", "prompt", "rater")}
        row = Answer(**names, label=label, **size).row()
        for name in ("implausible_points", "misaligned_points"):
            assert row[name] == line[name]
            checked += len(line[name])
    assert checked > 50


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": None}, "line 1: expected an object with image, prompt"),
        ({"image": "no.png"}, "no.png"),
        ({"image": "../no.png"}, "inside"),
    ],
)
def test_a_file_that_cannot_be_replayed_says_why(pictures, tmp_path, change, said):
    line = json.loads((pictures / "ratings.jsonl").read_text().splitlines()[0])
    file = tmp_path / "ratings.jsonl"
    file.write_text(json.dumps(line | change))
    with pytest.raises(ValueError, match=said):
        replaying.RatingLines(str(file), str(pictures))


def test_without_a_server_the_tokens_are_gone_again(pictures, tmp_path, capsys):
    flags = [
        f"--images={pictures}",
        f"--workdir={tmp_path}",
        "--url=http://127.0.0.1:9",
    ]
    with pytest.raises(SystemExit, match="no annotation server"):
        annotate.main(["replay", str(pictures / "ratings.jsonl"), *flags])
    capsys.readouterr()
    annotate.main(["tokens", "list", f"--workdir={tmp_path}"])
    assert not capsys.readouterr().out.strip()


def test_an_image_that_the_file_does_not_know_is_skipped(pictures, tmp_path):
    lines = (pictures / "ratings.jsonl").read_text().splitlines()
    known = tmp_path / "ratings.jsonl"
    known.write_text("\n".join(line for line in lines if "000003" in line))
    prompts, work = pictures / "prompts.jsonl", tmp_path / "w"
    some = tmp_path / "prompts.jsonl"
    some.write_text("\n".join(prompts.read_text().splitlines()[2:5]))
    with load.serving(some, pictures, work, "--raters=1") as (url, _):
        options = replaying.ReplayOptions(
            ratings=str(known), images=str(pictures), workdir=str(work), url=url
        )
        found = replaying.replay(
            replaying.RatingLines(str(known), str(pictures)), options
        )
    assert found == (1, 2 * options.raters)  # the others skip it after the first
