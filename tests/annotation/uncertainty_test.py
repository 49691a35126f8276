"""What a model is least sure of comes first, whatever the units, whatever the prompt."""

import dataclasses
import json
import math

import numpy as np
import pytest
from PIL import Image

from rahf.annotation import uncertainty


@dataclasses.dataclass
class _Word:
    probability: float


@dataclasses.dataclass
class _Prediction:
    words: list
    heatmaps: dict


def _prediction(chances, **maps):
    return _Prediction([_Word(chance) for chance in chances], maps)


def test_entropy_is_in_nats_and_absent_where_nothing_was_said():
    half = np.full((2, 2), 0.5, np.float32)
    found = uncertainty.entropies(_prediction([0.5, 1.0], misalignment=half))
    assert found["misalignment"] == pytest.approx(math.log(2))
    assert found["words"] == pytest.approx(math.log(2) / 2, abs=1e-4)
    assert uncertainty.entropies(_prediction([])) == {}


def test_parts_count_by_rank_and_absent_ones_for_the_middle():
    parts = [{"a": 0.1, "words": 9.0}, {"a": 5.0}, {"a": 0.2, "words": 1000.0}]
    np.testing.assert_allclose(
        uncertainty.combine(parts),
        [(1 / 3 + 1 / 2) / 2, (1 + 1 / 2) / 2, (2 / 3 + 1) / 2],
    )
    assert uncertainty.combine([]).shape == (0,)


def test_no_prompt_has_its_second_image_before_another_has_its_first():
    unsure = np.array([0.9, 0.8, 0.1, 0.7, 0.2])
    order = uncertainty.order(unsure, ["cat", "cat", "dog", "cat", "fish"])
    assert order == [0, 4, 2, 1, 3]
    order = uncertainty.order(unsure, ["A cat.", "a cat", "dog", "a  Cat", "fish"])
    assert order == [0, 4, 2, 1, 3]


class _Predictor:
    """Is the less sure the darker a picture is, and counts what it is asked."""

    asked = 0

    def predict(self, pictures, prompts, batch_size):
        self.asked += len(pictures)
        assert len(prompts) == len(pictures) <= batch_size
        return [_prediction([0.5 + 0.5 * each.mean() / 255]) for each in pictures]


def test_nothing_is_computed_twice_and_another_checkpoint_computes_anew(tmp_path):
    for index in range(40):
        Image.new("L", (8, 8), 6 * index).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "1.png").read_bytes()[:45])
    listed = [(f"{index}.png", "a cat") for index in range(40)]
    path, predictor = tmp_path / "kept.json", _Predictor()

    def measure(listed, digest="one"):
        return uncertainty.measure(listed, tmp_path, predictor, path, digest)

    found = measure([*listed[:20], ("broken.png", "a cat")])
    assert found.keys() == {f"{index}.png" for index in range(20)}
    assert predictor.asked == 20
    found = measure(listed)
    assert predictor.asked == 40 and len(found) == 40
    assert found["0.png"]["words"] > found["20.png"]["words"] > found["39.png"]["words"]
    measure(listed, "two")
    assert predictor.asked == 80 and json.loads(path.read_text())["checkpoint"] == "two"
    for text in ("{", "[]", '{"checkpoint": "two", "images": {"0.png": {}}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            measure(listed, "two")


def test_another_prompt_or_picture_of_the_same_name_is_computed_anew(tmp_path):
    image, path, predictor = tmp_path / "a.png", tmp_path / "kept.json", _Predictor()

    def measure(prompt):
        listed = [("a.png", prompt)]
        return uncertainty.measure(listed, tmp_path, predictor, path, "one")

    Image.new("L", (8, 8), 200).save(image)
    first = measure("a cat")
    assert measure("a cat") == first and predictor.asked == 1
    measure("a dog")
    assert predictor.asked == 2
    Image.new("L", (9, 8), 0).save(image)
    assert measure("a dog")["a.png"]["words"] > first["a.png"]["words"]
    image.write_bytes(b"no image")
    assert measure("a dog") == {} and predictor.asked == 3
