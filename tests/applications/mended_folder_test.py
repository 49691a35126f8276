"""Folders of mended images: complete or not there, and what each line says."""

import json

import numpy as np
import pytest
from PIL import Image

from rahf.applications.mended_folder import MendRequest, write_mended
from rahf.applications.mending import MendOptions
from tests.applications.mending_test import _image, _options, _Painter, _predict

IMAGES = {"a": _image((5, 8, 10)), "b": _image(), "c": _image((0, 0, 6))}


@pytest.fixture(name="predictions")
def _predictions(tmp_path):
    lines = []
    for name, image in IMAGES.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        line = {"id": name, "image": f"{name}.png", "prompt": f"a {name}"}
        lines.append(line | {"scores": {"plausibility": 0.5}})
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _request(path, **fields):
    fields = {"options": _options(), "seed": 5, "at_once": 2} | fields
    output = str(path.parent / "out")
    return MendRequest(predictions=[str(path)], output=output, **fields)


def test_every_image_has_its_line(predictions):
    painter = _Painter(lambda seed: 7)
    said = write_mended(_request(predictions), _predict, painter)
    assert "2 of 3 images mended" in said and "1 nothing to mend" in said
    assert "judge with another" in said
    out = predictions.parent / "out"
    lines = (out / "metadata.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert rows[0] == {
        "file_name": "a.png",
        "text": "a a",
        "id": "a",
        "seed": 5,
        "scores": [1 - 100 / 1600, 1.0],
        "areas": [100 / 1600, 0.0],
        "repainted": 100 / 1600,
        "why": "clean",
    }
    pixels = {name: np.asarray(Image.open(out / f"{name}.png")) for name in IMAGES}
    np.testing.assert_array_equal(pixels["b"], IMAGES["b"])
    assert (pixels["a"][5:15, 8:18] == 7).all() and (pixels["c"][:6, :6] == 7).all()
    assert "complete already" in write_mended(_request(predictions), None, None)
    with pytest.raises(ValueError, match="holds results of other"):
        write_mended(_request(predictions, seed=6), _predict, painter)


def test_an_interrupted_command_goes_on(predictions):
    def fails(images, prompts):
        if prompts == ["a c"]:
            raise KeyboardInterrupt
        return _predict(images, prompts)

    first = _Painter(lambda seed: 7)
    with pytest.raises(KeyboardInterrupt):
        write_mended(_request(predictions), fails, first)
    assert not (predictions.parent / "out").exists()
    second = _Painter(lambda seed: 7)
    write_mended(_request(predictions), _predict, second)
    # The seeds of the third image alone, the same as without the interruption.
    assert second.seeds == [7000, 7001, 7002]


def test_an_image_of_another_size_is_named(predictions):
    Image.new("RGB", (30, 40)).save(predictions.parent / "c.png")
    with pytest.raises(ValueError, match=r"id 'c': .*c.png has 40 x 30 pixels, and"):
        write_mended(_request(predictions), _predict, _Painter(lambda seed: 7))
    (predictions.parent / "c.png").unlink()
    with pytest.raises(ValueError, match=r"c\.png"):
        write_mended(_request(predictions), _predict, _Painter(lambda seed: 7))


def test_the_options_are_part_of_what_was_asked(predictions):
    write_mended(_request(predictions), _predict, _Painter(lambda seed: 7))
    other = _request(predictions, options=MendOptions())
    with pytest.raises(ValueError, match="holds results of other"):
        write_mended(other, _predict, _Painter(lambda seed: 7))
