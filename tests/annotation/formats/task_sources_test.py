"""Everything that can be served says the same of the same images."""

import json

import pytest
from PIL import Image

from rahf.annotation.formats import task_sources
from rahf.annotation.records import Feedback, RatingTask
from rahf.inference.job_sources import TableColumns
from tests.support import predictions as made

PROMPTS = {"a.png": 'a "red", cat', "b.png": ""}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in PROMPTS:
        Image.new("RGB", (30, 20)).save(folder / name)
    return folder


def _read(source, images=None, **options):
    found = task_sources.find_folder(str(source), images and str(images))
    options = task_sources.TaskOptions(**options)
    return list(task_sources.read_tasks(str(source), found, options))


EXPECTED = [(RatingTask(image=n, prompt=p), 30, 20) for n, p in PROMPTS.items()]


def _write(path, text):
    path.write_text(text)
    return path


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_one_list_in_every_form(folder):
    rows = [{"image": name, "prompt": prompt} for name, prompt in PROMPTS.items()]
    tasks = [{"id": 7, "data": {"image": f"/data/upload/1/{n}", "caption": p}}
             for n, p in PROMPTS.items()]  # fmt: skip
    for name, text in (
        ("x.jsonl", _lines(rows)),
        ("x.json", json.dumps(rows)),
        ("x.csv", 'image,prompt\na.png,"a ""red"", cat"\nb.png,\n'),
        ("x.tsv", 'file_name\tcaption\tother\na.png\ta "red", cat\t1\nb.png\t\t2\n'),
        ("tasks.json", json.dumps(tasks)),
    ):
        assert _read(_write(folder / name, text)) == EXPECTED, name
        moved = _write(folder.parent / name, text)
        assert _read(moved, folder) == EXPECTED, name
        (folder / name).unlink()


def test_a_folder_with_and_without_prompts(folder):
    assert _read(folder) == [
        (RatingTask(image=name), 30, 20) for name in sorted(PROMPTS)
    ]
    rows = [{"file_name": name, "text": p, "n": 1} for name, p in PROMPTS.items()]
    _write(folder / "metadata.jsonl", _lines(rows))
    assert _read(folder) == EXPECTED
    above = [(RatingTask(image=f"pictures/{t.image}", prompt=t.prompt), w, h)
             for t, w, h in EXPECTED]  # fmt: skip
    assert _read(folder, folder.parent) == above


def test_a_folders_images_that_its_table_lacks_are_named(folder, caplog):
    (folder / "metadata.csv").write_text("file_name,text\na.png,a cat\n")
    [(task, *_)] = _read(folder)
    assert task.image == "a.png"
    assert (
        "1 of 2 images are not in metadata.csv and are left out: b.png" in caplog.text
    )
    caplog.clear()
    (folder / "metadata.csv").write_text("file_name,text\na.png,a cat\n./b.png,x\n")
    assert len(_read(folder)) == 2 and not caplog.text


def test_subfolders_on_demand(folder):
    above = folder.parent
    with pytest.raises(ValueError, match="subfolders are searched with --recursive"):
        _read(above)
    names = [task.image for task, *_ in _read(above, recursive=True)]
    assert names == ["pictures/a.png", "pictures/b.png"]


def test_other_names_of_columns_and_splits(folder):
    columns = TableColumns(image="path", prompt="said")
    text = "path,said,split\na.png,hi,dev\nb.png,,train\n"
    expected = [("a.png", "hi", "dev"), ("b.png", "", "train")]
    for name in ("x.csv", "x.jsonl"):
        if name == "x.jsonl":
            rows = [dict(zip(("path", "said", "split", "x"), (*row, 0), strict=True))
                    for row in expected]  # fmt: skip
            text = _lines(rows)
        tasks = _read(_write(folder / name, text), columns=columns)
        assert [(t.image, t.prompt, t.split) for t, *_ in tasks] == expected


def test_a_guess_of_label_studio_and_of_the_own_form(folder):
    guess = Feedback(implausible_points=((15, 5),), misaligned_words=(1,),
                     scores={"overall": 2})  # fmt: skip
    size = {"original_width": 30, "original_height": 20, "image_rotation": 0}
    result = [
        {"from_name": "points", "to_name": "image", "type": "keypointlabels", **size,
         "value": {"x": 50, "y": 25.0, "width": 1, "keypointlabels": ["implausible"]}},
        {"from_name": "words", "to_name": "prompt", "type": "labels",
         "value": {"start": 3, "end": 6, "text": "red", "labels": ["misaligned"]}},
        {"from_name": "overall", "type": "rating", "value": {"rating": 2}},
    ]  # fmt: skip
    data = {"image": "a.png", "prompt": PROMPTS["a.png"]}
    tasks = [{"data": data, "predictions": [{"result": result}]}]
    row = data | {"guess": {"implausible_points": [[15, 5]], "misaligned_words": [1],
                            "scores": {"overall": 2}}}  # fmt: skip
    for name, text in (("t.json", json.dumps(tasks)), ("t.jsonl", _lines([row]))):
        [(task, *_)] = _read(_write(folder / name, text))
        assert task.guess == guess
    other = _write(folder / "t.json", json.dumps(tasks).replace("implausible", "Odd"))
    with pytest.raises(ValueError, match="--labels=Odd:implausible_points"):
        _read(other)
    [(task, *_)] = _read(other, labels={"Odd": "implausible_points"})
    assert task.guess == guess


def test_the_output_of_predict_by_folder_and_file(tmp_path):
    made.write(tmp_path / "p", made.ROWS[:2])
    for source in (tmp_path / "p", tmp_path / "p" / "predictions.jsonl"):
        with pytest.raises(ValueError, match="give the folder of the images"):
            _read(source)
        assert len(_read(source, tmp_path / "p")) == 2
    copy = (tmp_path / "p" / "predictions.jsonl").rename(tmp_path / "p" / "mine.jsonl")
    assert _read(copy, tmp_path / "p")[0][0].guess is not None


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("x.csv", "prompt\nhi\n", "line 1: expected a column named 'image'"),
        ("x.csv", "image,split\na.png,tarin\n", "line 2: split 'tarin'"),
        ("x.csv", "image,prompt\n,hi\n", "line 2: column 'image' is empty"),
        ("x.csv", "image\nno.png\n", "line 2: .*no.png"),
        ("x.csv", "image\n../pictures/../b.txt\n", "line 2: "),
        ("x.csv", "image\nhttps://host/a.png\n", "line 2: "),
        ("x.jsonl", '{"image": "a.png", "glod": {}}\n', "line 1: .*glod"),
        ("x.jsonl", '{"image": "a.png", "guess": {"scores": {"overall": 9}}}', "scores"),
        ("x.json", '{"image": "a.png"}', "expected a list"),
        ("x.json", "[3]", "entry 1"),
        ("x.json", "[", "not valid JSON"),
        ("x.json", '[{"data": {"text": "x"}}]', "task 1: .*--image_column"),
        ("x.json", '[{"id": 5, "data": {"image": "c.png"}}]', "task 5: .*no such file"),
        ("x.txt", "a.png", "expected one of .jsonl"),
    ],
)  # fmt: skip
def test_mistakes_are_named(folder, name, text, error):
    with pytest.raises(ValueError, match=error):
        _read(_write(folder / name, text))


def test_what_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder; expected a folder"):
        _read(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="--images=.*no such folder"):
        _read(_write(tmp_path / "x.csv", "image\n"), tmp_path / "none")
