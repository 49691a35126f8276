"""Other tools' paths and addresses are found in the folder, and nowhere else."""

import pytest
from PIL import Image

from rahf.annotation.formats.image_names import ImageNames


@pytest.fixture
def names(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("cat.png", "a/cat.png", "b c.png", "1a2b3c4d-own.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(folder / name)
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    return ImageNames(folder)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("cat.png", "cat.png"),
        ("./a/cat.png", "a/cat.png"),
        ("a\\cat.png", "a/cat.png"),
        ("/data/upload/3/1a2b3c4d-cat.png", "cat.png"),
        ("/data/upload/3/1a2b3c4d-own.png", "1a2b3c4d-own.png"),
        ("/data/local-files/?d=all/a/cat.png", "a/cat.png"),
        ("https://host.example/x/a/cat.png?token=1", "a/cat.png"),
        ("s3://bucket/b%20c.png", "b c.png"),
        ("b c.png", "b c.png"),
    ],
)
def test_the_longest_end_that_is_a_file(names, reference, name):
    assert names.find(reference) == name


@pytest.mark.parametrize(
    "reference",
    ["dog.png", "../outside.png", "link.png", "a/../../outside.png", "", "a", "x\0y"],
)
def test_nothing_else_is_found(names, reference):
    with pytest.raises(ValueError, match="no such file in .*no address is fetched"):
        names.find(reference)
