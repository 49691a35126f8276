import io
import json
import os

import pytest
from PIL import Image

from rahf.inference.job_sources import TableColumns
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
    Image.new("L", (1, 1)).save(folder / "notes.txt", "PNG")
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


def test_images_of_a_folder_are_known_by_their_first_bytes(tmp_path, caplog):
    jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF"
    png = b"\x89PNG\r\n\x1a\n"
    pictures = {
        "a.jfif": jpeg,
        "b.jpe": jpeg,
        "c.apng": png,
        "d.jpx": b"\0\0\0\x0cjP  \r\n\x87\n",
        "e": png,
        "f.HEIC": jpeg,
        "g.avifs": b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif",
        "h.png": b"damaged, and not passed over",
    }
    others = {
        "i.heic": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
        "notes.txt": b"P6 is no picture, nor is BMW",
        "empty": b"",
        "._h.png": b"\0\5\x16\7",
        ".DS_Store": b"\0\0\0\1Bud1",
        ".hidden.png": png,
    }
    for name, data in (pictures | others).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "z.png").mkdir()
    with caplog.at_level("WARNING"):
        jobs = read_jobs([str(tmp_path)], "x")
    assert [os.path.basename(job.image) for job in jobs] == list(pictures)
    assert "skipped 3 of 11 files, which are not" in caplog.text
    assert "empty, i.heic, notes.txt" in caplog.text
    caplog.clear()
    for name in ("i.heic", "notes.txt", "empty"):
        (tmp_path / name).unlink()
    read_jobs([str(tmp_path)], "x")
    assert not caplog.text


def test_folder_without_a_prompt_reads_its_prompts_file(folder):
    with pytest.raises(ValueError, match=r"no prompts; .*--prompt.*prompts\.jsonl"):
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
    # A row that ends early and an empty cell are rows without a prompt.
    text = "image , prompt\nb.png\na.JPG, \nb.png,its own\n"
    path = _table(folder, text, "short.csv")
    jobs = read_jobs([path], "default")
    assert [j.prompt for j in jobs] == ["default", "default", "its own"]
    assert [j.where for j in jobs] == [f"{path}, line {n}" for n in (2, 3, 4)]
    with pytest.raises(ValueError, match=r"short\.csv, line 2: field 'prompt'"):
        read_jobs([path])


def test_a_comma_that_is_not_quoted(folder):
    path = _table(folder, "image,prompt\nb.png,a cat, left of a dog\n", "list.csv")
    with pytest.raises(ValueError, match=r"list.csv, line 2: expected 2 cells.*got 3"):
        read_jobs([path])
    path = _table(folder, "image,prompt,prompt\nb.png,a,b\n", "list.csv")
    with pytest.raises(ValueError, match="line 1: column 'prompt' appears twice"):
        read_jobs([path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "line 1: not valid JSON"),
        ('{"image": "b.png", "prompt": "x"}\n{"image"', "line 2: not valid JSON"),
        ('["b.png"]', r"line 1: expected \{"),
        ('\n{"prompt": "x"}', "line 2: field 'image' is missing or empty"),
        ('{"image": "", "prompt": "x"}', "line 1: field 'image' is missing or empty"),
        ('{"image": null, "prompt": "x"}', "line 1: field 'image' is missing or empty"),
        ('{"image": 3, "prompt": "x"}', "line 1: field 'image' must be text, got 3"),
        ('{"image": "b.png", "prompt": [1]}', "line 1: field 'prompt' must be text"),
        ('{"image": "b.png", "prompt": "x", "id": true}', "line 1: field 'id'"),
        ('{"image": "b.png"}', "line 1: field 'prompt' is missing or empty, and"),
        ('{"image": "b.png", "prompt": "x", "prompt": "y"}', "1: key 'prompt' appears"),
        ("", "no rows found"),
    ],
)
def test_errors_name_file_line_and_field(folder, text, message):
    with pytest.raises(ValueError, match=r"list\.jsonl.*" + message):
        read_jobs([_table(folder, text)])


def test_wrong_sources(folder):
    with pytest.raises(ValueError, match=r"gone\.png: no such file or folder"):
        read_jobs([str(folder / "gone.png")], "x")
    with pytest.raises(ValueError, match=r"b\.png: the image has no prompt"):
        read_jobs([str(folder / "b.png")])
    with pytest.raises(
        ValueError, match=r"a column named 'image' or 'file_name', got \['file'"
    ):
        read_jobs([_table(folder, "file,prompt\na,b\n", "list.csv")])
    (folder / "bytes.jsonl").write_bytes(b'{"image": "\xff"}')
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_jobs([str(folder / "bytes.jsonl")])
    with pytest.raises(ValueError, match="expected an image, a folder or a table"):
        read_jobs([""], "x")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="no images found"):
        read_jobs([str(folder / "empty")], "x")


@pytest.mark.parametrize("columns", ["image,caption", "file_name,text"])
def test_a_caption_is_the_prompt_of_its_image(folder, columns):
    """As image folders of the `datasets` library have them."""
    image, text = columns.split(",")
    _table(folder, f"{columns}\nb.png,a dog\na.JPG,\n", "metadata.csv")
    jobs = read_jobs([str(folder / "metadata.csv")], "x")
    assert [(j.id, j.prompt) for j in jobs] == [("b", "a dog"), ("a", "x")]
    _table(folder, json.dumps({image: "b.png", text: "a cat"}), "metadata.jsonl")
    assert [j.prompt for j in read_jobs([str(folder)])] == ["a cat"]
    # Where there are several, "prompt" is meant.
    row = {image: "b.png", text: "a cat", "prompt": "a fish"}
    assert read_jobs([_table(folder, json.dumps(row))])[0].prompt == "a fish"


def test_tables_of_other_kinds(folder):
    path = _table(folder, "image\tprompt\nb.png\ta dog, left\n", "list.tsv")
    assert [j.prompt for j in read_jobs([path])] == ["a dog, left"]
    rows = [{"image": "b.png", "prompt": "a dog"}, {"image": "a.JPG"}]
    path = _table(folder, json.dumps(rows, indent=1), "list.json")
    jobs = read_jobs([path], "x")
    assert [(j.prompt, j.where) for j in jobs] == [
        ("a dog", f"{path}, row 1"),
        ("x", f"{path}, row 2"),
    ]
    for text, message in (
        ('{"image": "b.png"}', r"list\.json: expected a list of rows.*\.jsonl"),
        ('{"image": "b.png"}\n{"image": "b.png"}', r"list\.json: not valid JSON"),
        ("[3]", r"list\.json, row 1: expected"),
        ("[]", "no rows found"),
    ):
        with pytest.raises(ValueError, match=message):
            read_jobs([_table(folder, text, "list.json")], "x")


@pytest.mark.parametrize("name", ["list.xlsx", "notes.txt", "none"])
def test_what_is_no_image_is_refused_at_once(folder, name):
    (folder / name).write_bytes(b"PAR1 image,prompt")
    with pytest.raises(ValueError, match=rf"{name}: not an image; expected one"):
        read_jobs([str(folder / name)], "x")


@pytest.mark.parametrize("name", ["list.parquet", "{00..99}.tar"])
def test_shards_are_for_score(folder, name):
    with pytest.raises(ValueError, match="expected images, .* got a shard; python -m "):
        read_jobs([str(folder / name)], "x")


def test_text_that_is_not_unicode(folder):
    with pytest.raises(ValueError, match=r"--prompt is not valid Unicode: character 2"):
        read_jobs([str(folder / "b.png")], "a\udcff")
    path = _table(folder, '{"image": "b.png", "prompt": "\\ud83d"}')
    with pytest.raises(ValueError, match=r"list\.jsonl, line 1: field 'prompt' is not"):
        read_jobs([path])
    path = _table(folder, '{"image": "https://x.org/b.png", "prompt": "x"}')
    with pytest.raises(
        ValueError, match=r"line 1: field 'image' must be a path, got h"
    ):
        read_jobs([path])


def test_equal_names_are_told_apart(folder):
    sources = [str(folder / n) for n in ("b.png", "sub/../b.png", "a.JPG", "b.png")]
    jobs = read_jobs(sources, "x")
    assert [j.id for j in jobs] == ["b", "b-2", "a", "b-3"]
    rows = [{"image": "x.png", "id": i} for i in ("b", "b-2", "b", "B", "b-2")]
    text = "\n".join(json.dumps(row) for row in rows)
    jobs = read_jobs([_table(folder, text)], "x")
    assert [j.id for j in jobs] == ["b", "b-2", "b-3", "B", "b-2-2"]
    # An id that is given is not taken by a repeated name.
    rows = [{"image": "b.png"}, {"image": "b.png"}, {"image": "b.png", "id": "b-2"}]
    repeated = read_jobs([_table(folder, "\n".join(map(json.dumps, rows)))], "x")
    assert [j.id for j in repeated] == ["b", "b-3", "b-2"]
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


def test_subfolders(folder):
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "d.png").write_bytes(b"?")
    (folder / "sub" / "b.png").write_bytes(b"?")
    (folder / "again").symlink_to(folder / "sub")
    jobs = read_jobs([str(folder)], "x", recursive=True)
    assert [job.id for job in jobs] == ["a", "b", "sub/b", "sub/c"]
    assert all("/" not in job.name for job in jobs)
    assert len({job.name for job in jobs}) == 4
    with pytest.raises(ValueError, match="searched with --recursive only"):
        read_jobs([str(folder.parent)], "x")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv"])
def test_columns_of_other_names(folder, suffix):
    columns = TableColumns(image="url_path", prompt="jailbreak", id="uid")
    row = {"url_path": "b.png", "jailbreak": "a cat", "uid": "7", "prompt": "other"}
    comma = {"csv": ",", "tsv": "\t"}.get(suffix)
    text = {"jsonl": json.dumps(row), "json": json.dumps([row])}.get(suffix)
    if comma:
        text = "\n".join(comma.join(cells) for cells in (row, row.values()))
    path = _table(folder, str(text), f"list.{suffix}")
    [job] = read_jobs([path], columns=columns)
    assert (job.id, job.prompt) == ("7", "a cat")
    assert job.image == str(folder / "b.png")
    with pytest.raises(ValueError, match="'nothing'"):
        read_jobs([path], columns=TableColumns(image="nothing"))
    with pytest.raises(ValueError, match="'nothing' is missing or empty"):
        read_jobs([path], columns=TableColumns(image="url_path", prompt="nothing"))


def test_standard_input(folder, monkeypatch):
    monkeypatch.chdir(folder)
    rows = b'\xef\xbb\xbf{"image": "b.png"}\n\n{"image": "/x/c.png", "prompt": "d"}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(rows)))
    first, second = read_jobs(["-"], "a cat")
    assert (first.image, first.prompt) == (str(folder / "b.png"), "a cat")
    assert (second.image, second.prompt) == ("/x/c.png", "d")
    for given, message in (
        (b"", "standard input: no rows found"),
        (b"{", "standard input, line 1: not valid JSON"),
        (b"\xff", "standard input, line 1: byte 1 is not UTF-8"),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        with pytest.raises(ValueError, match=message):
            read_jobs(["-"])


def test_a_list_on_disk_is_a_sequence(folder):
    rows = [{"image": "b.png", "prompt": str(number)} for number in range(5)]
    jobs = read_jobs([_table(folder, "\n".join(map(json.dumps, rows)))])
    assert [job.prompt for job in jobs] == list("01234")
    assert (jobs[-1].prompt, jobs[1].id, len(jobs)) == ("4", "b-2", 5)
    assert [job.prompt for job in jobs[3:]] == ["3", "4"]
    with pytest.raises(IndexError):
        jobs[5]
    first = jobs.head(2)
    assert [job.prompt for job in first] == ["0", "1"]
    assert (len(first), len(jobs.head(9)), len(jobs.head(None))) == (2, 5, 5)


def test_files_that_cannot_be_read_in_a_folder(folder):
    (folder / "c.png").symlink_to(folder / "nowhere")
    (folder / "d.png").symlink_to(folder / "d.png")
    (folder / "e.png").symlink_to(folder / "b.png")
    jobs = read_jobs([str(folder)], "x", recursive=True)
    assert [job.id for job in jobs] == ["a", "b", "e", "sub/c"]
    (folder / "sub.png").write_bytes(b"?")  # a folder's files stay together
    jobs = read_jobs([str(folder)], "x", recursive=True)
    assert [job.id for job in jobs] == ["a", "b", "e", "sub/c", "sub"]
