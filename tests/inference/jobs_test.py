import json
import os

import pytest

from rahf.inference.jobs import read_jobs


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"?")
    return tmp_path / "pictures"


def _table(folder, text, name="list.jsonl"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_images_share_the_prompt(folder):
    jobs = read_jobs([str(folder / "b.png"), str(folder / "notes.txt")], "a cat")
    assert [(j.id, j.image, j.prompt, j.name) for j in jobs] == [
        ("b", str(folder / "b.png"), "a cat", "b"),
        ("notes", str(folder / "notes.txt"), "a cat", "notes"),
    ]
    assert read_jobs([str(folder / "b.png")], "")[0].prompt == ""


def test_relative_paths_become_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert read_jobs(["b.png"], "x")[0].image == str(folder / "b.png")
    assert read_jobs(["./sub/../b.png"], "x")[0].image == str(folder / "b.png")


def test_folder_in_order_of_names_without_subfolders(folder):
    assert [j.id for j in read_jobs([str(folder)], "x")] == ["a", "b"]


def test_folder_without_a_prompt_reads_its_prompts_file(folder):
    with pytest.raises(ValueError, match=r"no prompt; .*--prompt.*prompts\.jsonl"):
        read_jobs([str(folder)])
    _table(folder, "image,prompt\nb.png,from csv\n", "prompts.csv")
    assert [j.prompt for j in read_jobs([str(folder)])] == ["from csv"]
    _table(folder, '{"image": "b.png", "prompt": "from jsonl"}', "prompts.jsonl")
    assert [j.prompt for j in read_jobs([str(folder)])] == ["from jsonl"]
    assert [j.prompt for j in read_jobs([str(folder)], "mine")] == ["mine", "mine"]


def test_jsonl_is_relative_to_its_own_folder(folder):
    rows = [
        {"image": "b.png", "prompt": "naïve, “quoted”", "id": "first"},
        {"image": "sub/c.png", "prompt": "", "other": [1]},
        {"image": str(folder / "a.JPG"), "id": 7},
    ]
    text = "\n\n".join(json.dumps(row) for row in rows)
    jobs = read_jobs([_table(folder, text)], "default")
    assert [(j.id, j.prompt) for j in jobs] == [
        ("first", "naïve, “quoted”"),
        ("c", ""),
        ("7", "default"),
    ]
    assert [j.image for j in jobs] == [
        str(folder / "b.png"),
        str(folder / "sub" / "c.png"),
        str(folder / "a.JPG"),
    ]


def test_csv_as_spreadsheets_write_it(folder):
    text = '\ufeffimage,score,prompt,id\r\nb.png,1,"a cat, ""sitting""",\r\n'
    (job,) = read_jobs([_table(folder, text, "list.CSV")])
    assert (job.id, job.prompt) == ("b", 'a cat, "sitting"')
    # A row that ends early has no prompt cell; an empty cell is an empty prompt.
    text = "image,prompt\nb.png\na.JPG,\n"
    path = _table(folder, text, "short.csv")
    assert [j.prompt for j in read_jobs([path], "default")] == ["default", ""]
    with pytest.raises(ValueError, match=r"short\.csv, line 2: field 'prompt'"):
        read_jobs([path])


def test_a_comma_that_is_not_quoted(folder):
    path = _table(folder, "image,prompt\nb.png,a cat, left of a dog\n", "list.csv")
    with pytest.raises(ValueError, match=r"list.csv, line 2: expected 2 cells.*got 3"):
        read_jobs([path])
    path = _table(folder, "image,prompt,prompt\nb.png,a,b\n", "list.csv")
    with pytest.raises(ValueError, match="'prompt' stands there twice"):
        read_jobs([path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "line 1: not JSON"),
        ('{"image": "b.png", "prompt": "x"}\n{"image"', "line 2: not JSON"),
        ('["b.png"]', r"line 1: expected \{"),
        ('\n{"prompt": "x"}', "line 2: field 'image' is missing or empty"),
        ('{"image": "", "prompt": "x"}', "line 1: field 'image' is missing or empty"),
        ('{"image": 3, "prompt": "x"}', "line 1: field 'image' must be text, got 3"),
        ('{"image": "b.png", "prompt": [1]}', "line 1: field 'prompt' must be text"),
        ('{"image": "b.png", "prompt": "x", "id": true}', "line 1: field 'id'"),
        ('{"image": "b.png"}', "line 1: field 'prompt' is missing, and no --prompt"),
        ("", "holds no rows"),
    ],
)
def test_errors_name_file_line_and_field(folder, text, message):
    with pytest.raises(ValueError, match=r"list\.jsonl.*" + message):
        read_jobs([_table(folder, text)])


def test_wrong_sources(folder):
    with pytest.raises(ValueError, match=r"gone\.png: no such file or folder"):
        read_jobs([str(folder / "gone.png")], "x")
    with pytest.raises(ValueError, match=r"b\.png: an image needs its prompt"):
        read_jobs([str(folder / "b.png")])
    with pytest.raises(ValueError, match="a column named 'image', got"):
        read_jobs([_table(folder, "file,prompt\na,b\n", "list.csv")])
    (folder / "bytes.jsonl").write_bytes(b'{"image": "\xff"}')
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_jobs([str(folder / "bytes.jsonl")])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        read_jobs([str(folder / "empty")], "x")


def test_equal_names_are_told_apart(folder):
    sources = [str(folder / n) for n in ("b.png", "sub/../b.png", "a.JPG", "b.png")]
    jobs = read_jobs(sources, "x")
    assert [j.id for j in jobs] == ["b", "b-2", "a", "b-3"]
    rows = [{"image": "x.png", "id": i} for i in ("b", "b-2", "b", "B", "b-2")]
    text = "\n".join(json.dumps(row) for row in rows)
    jobs = read_jobs([_table(folder, text)], "x")
    assert [j.id for j in jobs] == ["b", "b-2", "b-3", "B", "b-2-2"]
    # Some file systems hold b and B to be the same.
    assert len({j.name.casefold() for j in jobs}) == 5


def test_file_names_stay_inside_the_folder(folder):
    ids = [
        "../../etc/passwd",
        "/root",
        "..",
        ".",
        "a/b",
        "a_b",
        "a b",
        "x" * 400,
        "é\0",
    ]
    text = "\n".join(json.dumps({"image": "x.png", "id": i}) for i in ids)
    jobs = read_jobs([_table(folder, text)], "x")
    assert [j.id for j in jobs] == ids
    names = [j.name for j in jobs]
    assert len(set(names)) == len(names)
    assert all(os.path.basename(name) == name for name in names)
    assert all(len(name.encode()) < 200 and "\0" not in name for name in names)
    assert all(not name.startswith(".") for name in names)
    assert names[5] == "a_b"
    # The name follows from the id alone, so a later run cannot take it.
    alone = read_jobs([_table(folder, json.dumps({"image": "x.png", "id": "a b"}))], "")
    assert alone[0].name == names[6]
