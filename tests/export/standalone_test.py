"""The script that an export puts beside the program: what it refuses."""

import pytest
from PIL import Image

from rahf import images
from rahf.export import standalone


def test_its_limits_are_those_of_the_package():
    assert standalone.FORMATS == images.FORMATS
    assert standalone.MAX_PIXELS == images.MAX_PIXELS


def test_other_formats_and_too_many_pixels_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 4)).save(path, "TGA")
    with pytest.raises(OSError, match=r"cannot identify .*picture\.png"):
        standalone.read_image(path)
    Image.new("RGB", (8, 4), "red").save(path)
    monkeypatch.setattr(standalone, "MAX_PIXELS", 32)
    assert standalone.read_image(path).size == (8, 4)
    monkeypatch.setattr(standalone, "MAX_PIXELS", 31)
    with pytest.raises(
        ValueError, match=r"picture\.png: .* at most 31 pixels, got 8 x"
    ):
        standalone.read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"input": ', r"config\.json is not valid JSON"),
        ("[1]", r"config\.json is not the config of an export"),
        (None, "No such file"),
    ],
)
def test_a_damaged_config_is_one_line(tmp_path, monkeypatch, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    monkeypatch.setattr(standalone, "__file__", str(tmp_path / "predict.py"))
    monkeypatch.setattr("sys.argv", ["predict.py", "a cat", "cat.png"])
    with pytest.raises(SystemExit, match=f"error: .*{message}") as stop:
        standalone.main()
    assert "\n" not in str(stop.value)
