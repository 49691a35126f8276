"""Tables of text: what a careless comma or quote does is an error, with its line."""

import pytest

from rahf.datasets import captions
from rahf.datasets.files.csv_table import StrictReader, TableError
from rahf.datasets.files.image_table import read_table
from rahf.datasets.ratings import prompt_table, rating_files
from rahf.inference.jobs import read_jobs


def _read(tmp_path, text, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    reader = StrictReader(path, **options)
    return [(reader.line, row) for row in reader]


def test_rows_are_what_was_written(tmp_path):
    text = (
        '\ufeff image , prompt \r\na.png,"a ""red"" cat, left"\r\n\r\n'
        'b.png, "two\nlines"\r\nc.png,a "red" cat\r\n'
    )
    assert _read(tmp_path, text) == [
        (2, {"image": "a.png", "prompt": 'a "red" cat, left'}),
        (4, {"image": "b.png", "prompt": "two\nlines"}),
        (6, {"image": "c.png", "prompt": 'a "red" cat'}),
    ]
    text = 'image\tprompt\na.png\ta cat, left\nb.png\t"a\tb"\n'
    assert [row["prompt"] for _, row in _read(tmp_path, text, "t.TSV")] == [
        "a cat, left",
        "a\tb",
    ]
    short = _read(tmp_path, "image,prompt\na.png\n", short=True)
    assert short == [(2, {"image": "a.png"})]
    assert _read(tmp_path, "") == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # The cell goes on to the end, to another quote, to a row's closing quote.
        ('a.png,"a red cat”\nb.png,a dog\n', "line 3: .*end of data.*closing quote"),
        ('a.png,"a red cat”\nb.png,"a dog"\n', "line 3: .*closing quote missing"),
        ('a.png,"a "red" cat"\n', "line 3: .*quotes inside it are doubled"),
        (
            "a.png,a cat, left\n",
            "line 3: expected 2 cells .* got 3; quote cells .*comma",
        ),
        ("a.png\n", "line 3: expected 2 cells .* got 1"),
        (b"a.png,caf\xe9\n", "line 3: expected UTF-8 text, got byte 0xe9"),
    ],
)
def test_every_reader_refuses_what_reads_two_ways(tmp_path, rows, message):
    rows = rows if isinstance(rows, bytes) else rows.encode()
    path = tmp_path / "t.csv"
    message = rf"t\.csv.*(\n.*)?{message}"
    for header, read in (
        (b"image,prompt", lambda: list(StrictReader(path))),
        (b"image,caption", lambda: captions.CaptionTable(path)),
        (b"image,overall", lambda: rating_files.read(path)),
        (b"image,prompt", lambda: prompt_table.read(path)),
        (b"image,mos", lambda: read_table(path, "image", ["mos"])),
        (b"image,prompt", lambda: read_jobs([str(path)])),
    ):
        path.write_bytes(header + b"\nx.png,1\n" + rows)
        if rows == b"a.png\n" and read.__code__.co_names[:1] == ("read_jobs",):
            continue  # there a row may end early
        with pytest.raises(ValueError, match=message):
            read()


def test_a_column_twice(tmp_path):
    with pytest.raises(TableError, match="line 1: column 'prompt' appears twice"):
        _read(tmp_path, "image,prompt, prompt\n")
    # Spreadsheets leave columns without a name.
    assert _read(tmp_path, "image,,\na.png,,\n") == [(2, {"image": "a.png", "": ""})]


def test_one_image_with_two_prompts(tmp_path):
    (tmp_path / "p.csv").write_text("image,prompt\na.png,a cat\n./a.png,a dog\n")
    (tmp_path / "r.jsonl").write_text(
        '{"image": "a.png", "rater": "r", "scores": {"overall": 3}}'
    )
    with pytest.raises(ValueError, match="p.csv, line 3: field 'prompt': 'a dog', but"):
        rating_files.read(tmp_path / "r.jsonl", prompts=tmp_path / "p.csv")
