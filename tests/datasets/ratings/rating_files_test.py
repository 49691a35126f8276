"""Raters' files: what is read, and that mistakes are named by line and field."""

import json

import pytest

from rahf.datasets.ratings import consolidation, rating_files, reliability
from rahf.datasets.ratings.rating_files import RatingsError

LINE = {
    "image": "cat.png",
    "prompt": "a yellow cat",
    "rater": "r07",
    "implausible_points": [[0.25, 0.5]],
    "misaligned_points": [],
    "misaligned_words": [1],
    "scores": {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3},
    "seconds": 41.0,
}


def write(tmp_path, *lines, name="ratings.jsonl"):
    path = tmp_path / name
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_lines_are_gathered_by_image(tmp_path):
    path = write(
        tmp_path,
        LINE,
        LINE | {"image": "dog.png", "prompt": "", "misaligned_words": []},
        "",
        LINE | {"rater": 8, "notes": {"any": "thing"}, "seconds": None},
    )
    cat, dog = rating_files.read(path)
    assert (cat.image, cat.prompt, cat.split) == ("cat.png", "a yellow cat", None)
    assert [rating["rater"] for rating in cat.ratings] == ["r07", "8"]
    own = {k: v for k, v in LINE.items() if k not in ("image", "prompt")}
    assert cat.ratings[0] == own
    assert "seconds" not in cat.ratings[1] and "notes" not in cat.ratings[1]
    assert (dog.prompt, len(dog.ratings)) == ("", 1)
    labels = consolidation.consolidate(cat.ratings, cat.prompt, size=(64, 64))
    assert labels["prompt_misalignment_label"].tolist() == [1, 0, 1]


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LINE).encode() + b"\r\n")
    assert len(rating_files.read(path)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "field 'image': missing"),
        ({"image": "../cat.png"}, "'image': expected a path inside the folder"),
        ({"image": "/etc/cat.png"}, "'image': expected a path inside the folder"),
        ({"image": ""}, "field 'image': expected text, got ''"),
        ({"rater": None}, "field 'rater': missing"),
        ({"rater": True}, "field 'rater': expected text, got True"),
        ({"prompt": 3}, "field 'prompt': expected text, got 3"),
        ({"prompt": "\ud800"}, "field 'prompt': expected text without lone"),
        ({"prompt": None}, "field 'prompt': missing, but 'misaligned_words'"),
        ({"score": 3}, "field 'score': unknown; did you mean 'scores'"),
        ({"colour": 3}, "field 'colour': unknown; put it into 'notes'"),
        ({"implausible_points": [0.2, 0.3]}, r"'implausible_points': expected \[\[x"),
        (
            {"implausible_points": [[12, 30]]},
            "expected .* fractions .* got .*12, 30",
        ),
        ({"misaligned_points": [[0.1, float("nan")]]}, "'misaligned_points': expected"),
        ({"misaligned_points": [[0.1, 10**400]]}, "'misaligned_points': expected"),
        (
            {"misaligned_words": [3]},
            "'misaligned_words': word 3 does not exist; .* 3 w",
        ),
        ({"misaligned_words": [-1]}, "'misaligned_words': expected a list of word num"),
        ({"misaligned_words": [True]}, "'misaligned_words': expected a list of word"),
        ({"scores": {"beauty": 3}}, "'scores': expected an object with some of plaus"),
        ({"scores": {"overall": 6}}, "'scores': expected answers from 1 to 5"),
        ({"scores": [3, 4]}, "field 'scores': expected an object"),
        ({"seconds": -1}, "field 'seconds': expected a number of seconds"),
        ({"split": "valid"}, "field 'split': expected one of train, dev, test"),
    ],
)
def test_mistakes_name_line_and_field(tmp_path, change, message):
    path = write(tmp_path, LINE, LINE | {"rater": "other"} | change)
    with pytest.raises(RatingsError, match=f"line 2, {message}|line 2, .*{message}"):
        rating_files.read(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2, expected JSON"),
        ("[1]", r"line 2, expected an object, got \[1\]"),
        ("[" * 100_000, "line 2, expected a rating, got JSON nested|expected JSON"),
        ('{"image": "a", "rater": "b"}', "'scores': a rating needs one of"),
        ("1" * 5000, "line 2, expected"),
        (LINE, "line 2, field 'rater': 'r07' has already rated 'cat.png', in line 1"),
        ('{"image": "a", "scores": {"overall": 1, "overall": 5}}', "key 'overall' app"),
        (
            LINE | {"rater": "x", "prompt": "a red cat"},
            "line 2, field 'prompt': 'a red cat', but line 1 has 'a yellow cat'",
        ),
        (LINE | {"rater": "x", "split": "dev"}, "'split': 'dev', but line 1 has None"),
    ],
)
def test_lines_that_do_not_fit(tmp_path, line, message):
    with pytest.raises(RatingsError, match=message):
        rating_files.read(write(tmp_path, LINE, line))


def test_all_mistakes_are_told_at_once(tmp_path):
    path = write(tmp_path, *[LINE | {"seconds": "x"}] * 30)
    with pytest.raises(RatingsError, match="30 mistakes") as caught:
        rating_files.read(path)
    assert len(caught.value.mistakes) == 30
    assert "line 20," in str(caught.value) and "and 10 more" in str(caught.value)
    path.write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(RatingsError, match="line 1, expected UTF-8"):
        rating_files.read(path)
    path.write_text("")
    with pytest.raises(RatingsError, match="the file has no ratings"):
        rating_files.read(path)
    with pytest.raises(ValueError, match="no such file"):
        rating_files.read(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,two cats, 2 dogs,r1,3", "line 2: expected 4 cells .*, got 5"),
        ("a.jpg,two cats,r1", "line 2: expected 4 cells .*, got 3"),
    ],
)
def test_cells_that_shift_are_refused(tmp_path, row, message):
    table = write(tmp_path, "image,prompt,rater,overall", row, name="r.csv")
    with pytest.raises(ValueError, match=message):
        rating_files.read(table)
    with pytest.raises(ValueError, match=message):
        rating_files.read(write(tmp_path, LINE), prompts=table)


def test_a_column_that_is_named_comes_before_its_namesake(tmp_path):
    rows = ("image,rater,mos,overall", "./a.jpg,r1,2,5", "a.jpg,r2,,5")
    table = write(tmp_path, *rows, name="r.csv")
    with pytest.raises(ValueError, match="line 3, field 'scores'"):
        rating_files.read(table, columns={"mos": "overall"})
    table.write_text("\n".join(rows[:2]))
    [image] = rating_files.read(table, columns={"mos": "overall"})
    assert (image.image, image.ratings[0]["scores"]) == ("a.jpg", {"overall": 2.0})


def test_a_table_of_scores(tmp_path):
    table = write(
        tmp_path,
        "worker,image,appeal,plausibility,generator",
        "1,a.jpg,0,5,x",
        "2,a.jpg,10,,x",
        "1,b.jpg,5,10,y",
        name="r.csv",
    )
    prompts = write(tmp_path, "image,prompt", "./a.jpg,a fish", name="p.csv")
    a, b = rating_files.read(
        table,
        columns={"worker": "rater", "appeal": "aesthetics"},
        scale=(0, 10),
        prompts=prompts,
    )
    assert (a.prompt, b.prompt) == ("a fish", None)
    assert a.ratings == [
        {"rater": "1", "scores": {"plausibility": 3.0, "aesthetics": 1.0}},
        {"rater": "2", "scores": {"aesthetics": 5.0}},
    ]
    for options, message in (
        ({"columns": {"none": "rater"}}, r"no column \['none'\]; it has"),
        ({"columns": {"worker": "mood"}}, "unknown content of columns: mood; options"),
        ({"columns": {"worker": "rater"}, "scale": (5, 1)}, "worst < best"),
        ({"columns": {"worker": "rater"}}, "line 3, field 'plausibility'"),
        ({}, "line 2, field 'rater': missing"),
    ):
        if message.startswith("line 3"):
            table.write_text("worker,image,plausibility\n1,a,1\n1,b,9\n")
        with pytest.raises(ValueError, match=message):
            rating_files.read(table, **options)
    with pytest.raises(ValueError, match="can only be named for CSV files"):
        rating_files.read(write(tmp_path, LINE), columns={"a": "rater"})
    with pytest.raises(ValueError, match="--prompts=.* is unreadable"):
        rating_files.read(
            table, columns={"worker": "rater"}, scale=(0, 9), prompts="none"
        )


def rating(rater, answer):
    return {"rater": rater, "scores": {"overall": answer}}


def test_reliable_raters_weigh_more():
    # "wild" is two points away each time, the others agree.
    images = [
        [
            rating("a", 3),
            rating("b", 3),
            rating("c", 3),
            rating("wild", 1 + 4 * (i % 2)),
        ]
        for i in range(20)
    ]
    weights = reliability.rater_weights(images)
    assert weights["a"] == weights["b"] == weights["c"] > 1
    # By hand: 20 answers of 4 * 3/4 for wild, 20 of (2/3)^2 * 3/4 = 1/3 for the others.
    pool = (20 * 3 + 3 * 20 / 3) / 80
    assert weights["wild"] == pytest.approx(pool / ((60 + 10 * pool) / 30))
    assert weights["a"] == pytest.approx(pool / ((20 / 3 + 10 * pool) / 30))
    few = reliability.rater_weights([*images, [rating("new", 5), rating("a", 1)]])
    assert 1 / 5 < few["wild"] < few["new"] < 1.1
    alike = reliability.rater_weights([[rating("a", 2), rating("b", 2)]])
    assert alike == {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match="scores from at least two raters, got none"):
        reliability.rater_weights([[rating("a", 2)]])
