"""CVAT for images 1.1: finished annotations in."""

import sys
import zipfile

import pytest
from PIL import Image

from rahf.annotation.formats import reading
from rahf.annotation.formats.importing import ImportOptions
from rahf.annotation.formats.label_names import LabelNames
from rahf.datasets.ratings import rating_files

TASK = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id>
      <name>cats</name>
      <size>3</size>
      <mode>annotation</mode>
      <overlap>0</overlap>
      <bugtracker></bugtracker>
      <created>2024-09-25 11:34:24.617558+00:00</created>
      <labels>
        <label><name>implausible</name><color>#ff0000</color><type>points</type>
          <attributes></attributes></label>
        <label><name>misaligned</name><type>points</type><attributes></attributes></label>
        <label><name>rating</name><type>tag</type><attributes>
          <attribute><name>plausibility</name><mutable>False</mutable>
            <input_type>radio</input_type><values>1&#10;2&#10;3&#10;4&#10;5</values>
          </attribute>
        </attributes></label>
      </labels>
      <owner><username>boss</username><email></email></owner>
      <assignee><username>ann</username><email></email></assignee>
    </task>
    <dumped>2024-09-25 11:38:28.799808+00:00</dumped>
  </meta>
  <image id="0" name="cat.png" width="640" height="480">
    <points label="implausible" source="manual" occluded="0"
      points="160.00,240.00;574.90,39.48" z_order="0">
    </points>
    <tag label="rating" source="manual">
      <attribute name="plausibility">2</attribute>
      <attribute name="overall">__undefined__</attribute>
      <attribute name="misaligned_words">0, 2</attribute>
      <attribute name="prompt">a yellow cat</attribute>
      <attribute name="weather">dry</attribute>
    </tag>
  </image>
  <image id="1" name="dog.png" width="640" height="480">
    <tag label="nothing_wrong" source="manual"></tag>
  </image>
  <image id="2" name="emu.png" width="640" height="480">
  </image>
</annotations>
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("cat.png", "dog.png", "emu.png"):
        Image.new("RGB", (640, 480)).save(tmp_path / name)
    return tmp_path


def _import(folder, text=TASK, **options):
    path = folder / "annotations.xml"
    path.write_text(text)
    return reading.read_files([path], "cvat", ImportOptions(images=folder, **options))


def test_a_finished_task(folder):
    found = _import(folder)
    assert found.rows == [
        {
            "image": "cat.png",
            "prompt": "a yellow cat",
            "rater": "ann",
            "implausible_points": [[0.25, 0.5], [574.9 / 640, 39.48 / 480]],
            "misaligned_points": [],
            "misaligned_words": [0, 2],
            "scores": {"plausibility": 2},
        },
        {
            "image": "dog.png",
            "rater": "ann",
            "implausible_points": [],
            "misaligned_points": [],
            "misaligned_words": [],
        },
    ]
    assert "1 images without an annotation" in found.summary()
    assert "1 attribute 'weather'" in found.summary()
    (folder / "r.jsonl").write_text(found.to_lines())
    assert len(rating_files.read(folder / "r.jsonl")) == 2


def test_an_archive_and_a_file_for_each_rater(folder):
    with zipfile.ZipFile(folder / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", TASK)
    (folder / "b.xml").write_text(TASK.replace("ann<", "bob<"))
    options = ImportOptions(images=folder)
    found = reading.read_files([folder / "task.zip", folder / "b.xml"], "cvat", options)
    assert [row["rater"] for row in found.rows] == ["ann", "ann", "bob", "bob"]
    with pytest.raises(rating_files.RatingsError, match="already rated 'cat.png'"):
        reading.read_files([folder / "task.zip", folder / "task.zip"], "cvat", options)
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("x.xml", TASK)
    with pytest.raises(ValueError, match="expected annotations.xml"):
        reading.read_files([folder / "other.zip"], "cvat", options)


def test_the_rater_of_each_task_of_a_project(folder):
    task = "<task><id>{}</id><assignee><username>{}</username></assignee></task>"
    tasks = "".join(task.format(n, who) for n, who in ((4, "ann"), (5, "bob")))
    text = f"""<annotations><version>1.1</version><meta><project><tasks>{tasks}</tasks>
      </project></meta>
      <image id="0" name="cat.png" task_id="4" width="640" height="480">
        <points label="implausible" points="1,2"/></image>
      <image id="1" name="cat.png" task_id="5" width="640" height="480">
        <points label="implausible" points="3,4"/></image></annotations>"""
    assert [row["rater"] for row in _import(folder, text).rows] == ["ann", "bob"]


def test_what_says_nothing_is_left_out(folder):
    text = """<annotations><image id="0" name="cat.png" width="640" height="480">
      <tag label="good_frame"></tag></image>
      <image id="1" name="dog.png" width="640" height="480">
      <tag label="x"><attribute name="overall">3</attribute></tag></image>
      </annotations>"""
    found = _import(folder, text, rater="me")
    assert found.rows == [{"image": "dog.png", "rater": "me", "scores": {"overall": 3}}]
    assert "1 annotations without a label" in found.summary()


def test_options(folder):
    text = TASK.replace('label="implausible"', 'label="wheel"').replace(
        '<attribute name="prompt">a yellow cat</attribute>', ""
    )
    found = _import(
        folder,
        text,
        names=LabelNames({"wheel": "misaligned_points"}),
        fields=["misaligned_points"],
        prompts={"cat.png": "some other cat"},
        rater="me",
    )
    [cat, dog] = found.rows
    assert cat["prompt"] == "some other cat" and cat["rater"] == "me"
    assert len(cat["misaligned_points"]) == 2 and "implausible_points" not in cat
    assert dog["implausible_points"] == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("160.00,240.00", "641,240", "image 0 (cat.png), points 'implausible': 641,240"),
        ("160.00,240.00", "nan,240", "is outside of 640 x 480"),
        ("160.00,240.00", "160", "expected 'x,y;x,y', got '160'"),
        ('width="640" height="480">\n    <points', 'height="480"><points', "'width'"),
        ('width="640" height="480">\n    <points', 'width="9" height="480"><points',
         "is it another image?"),
        ('name="cat.png"', 'name="http://host/no.png"', "no address is fetched"),
        ('points label="implausible"', 'points label="nose"', "--labels=nose:"),
        (">2</attribute>", ">2+</attribute>", "'plausibility': expected a number"),
        (">2</attribute>", ">9</attribute>", "field 'scores': expected answers"),
        (">0, 2<", ">cat<", "expected numbers of words"),
        (">0, 2<", ">3<", "field 'misaligned_words': word 3 does not exist"),
        ('<tag label="rating"', '<box label="implausible" xtl="1"/><tag label="rating"',
         "expected points, got a box"),
        ("<assignee><username>ann</username>", "<assignee><username/>", "--rater=NAME"),
    ],
)  # fmt: skip
def test_mistakes_name_the_image_and_what_was_expected(folder, old, new, error):
    assert old in TASK
    with pytest.raises(rating_files.RatingsError) as raised:
        _import(folder, TASK.replace(old, new, 1))
    assert error in str(raised.value) and "annotations.xml: " in str(raised.value)


BOMB = TASK.replace(
    "<annotations>", '<!DOCTYPE x [<!ENTITY a "b">]><annotations>', 1
).replace("cats", "&a;")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (BOMB, "EntitiesForbidden"),
        (BOMB.replace('a "b"', 'a SYSTEM "file:///etc/passwd"'), "EntitiesForbidden"),
        ("<annotations>", "not valid XML"),
        ("<annotations/>", "expected <annotations> with <image>s"),
        ("<html/>", "got <html>"),
        (TASK.replace("</meta>", '</meta><track id="0" label="x"/>'), "export as 'CVAT"),
    ],
)  # fmt: skip
def test_other_files_are_refused(folder, text, error):
    with pytest.raises(ValueError, match=error):
        _import(folder, text)


def test_without_the_extra_it_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    with pytest.raises(ValueError, match=r'pip install "rahf\[annotate\]"'):
        _import(folder)
