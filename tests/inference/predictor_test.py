"""`rahf.load(W).predict(...)`: a real, tiny, untrained model behind it."""

import io

import numpy as np
import pytest
from PIL import Image

import rahf
from rahf import images, targets
from rahf.datasets.scenes import Scenes
from tests.support import tiny

PROMPTS = ["a red cat, left of a blue house.", "a cat", "", "cat! " * 10_000]


@pytest.fixture(scope="module", params=["multihead", "augmented"])
def workdir(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return tiny.write_workdir(folder, tiny.config(request.param))


@pytest.fixture(scope="module")
def predictor(workdir):
    return rahf.load(workdir)


@pytest.fixture(scope="module")
def pictures():
    scenes = Scenes("test", 64)
    return [scenes[i]["image"] for i in range(4)]


def _assert_same(a, b):
    atol = 1e-5
    for name, score in a.scores.items():
        assert abs(score - b.scores[name]) < atol, name
    for name, heatmap in a.heatmaps.items():
        np.testing.assert_allclose(heatmap, b.heatmaps[name], atol=atol)
    for one, other in zip(a.words, b.words, strict=True):
        assert one.text == other.text
        assert abs(one.probability - other.probability) < atol


def test_what_a_prediction_holds(predictor, pictures):
    [prediction] = predictor.predict([pictures[0]], [PROMPTS[0]])
    # In the order of the table, here and wherever they are written or printed.
    assert list(prediction.scores) == [
        row.name for row in targets.rows() if row.kind is targets.Kind.SCORE
    ]
    assert all(0 <= score <= 1 for score in prediction.scores.values())
    assert list(prediction.heatmaps) == ["implausibility", "misalignment"]
    assert prediction.heatmaps["implausibility"].shape == (32, 32)
    assert [word.text for word in prediction.words] == [
        "a",
        "red",
        "cat",
        "left",
        "of",
        "a",
        "blue",
        "house",
    ]
    threshold = targets.get("misaligned_words").threshold
    for word in prediction.words:
        assert word.misaligned == (word.probability > threshold)
    assert prediction.image_size == (64, 64)
    assert not prediction.prompt_truncated


def test_neighbours_batch_size_and_padding_change_nothing(predictor, pictures):
    together = predictor.predict(pictures, PROMPTS)
    for i, (picture, prompt) in enumerate(zip(pictures, PROMPTS, strict=True)):
        [alone] = predictor.predict([picture], [prompt], batch_size=1)
        _assert_same(alone, together[i])
    by_three = predictor.predict(pictures, PROMPTS, batch_size=3)
    for one, other in zip(by_three, together, strict=True):
        _assert_same(one, other)


def test_empty_and_endless_prompts(predictor, pictures):
    empty, endless = predictor.predict(pictures[2:], PROMPTS[2:])
    assert empty.words == [] and not empty.prompt_truncated
    assert endless.prompt_truncated
    assert 0 < len(endless.words) < 40


def test_a_second_call_compiles_nothing(predictor, pictures):
    predictor.predict(pictures, PROMPTS)
    before = predictor._run._cache_size()
    predictor.predict(pictures[:3], PROMPTS[:3])
    assert predictor._run._cache_size() == before


def test_every_way_to_give_an_image(predictor, pictures, tmp_path):
    path = tmp_path / "scene.png"
    picture = Image.fromarray(pictures[0])
    picture.save(path)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    given = [pictures[0], path, str(path), buffer.getvalue(), picture, buffer]
    expected, *others = predictor.predict(iter(given), "a cat")
    assert len(others) == len(given) - 1
    others += predictor.predict(str(path), ["a cat"])
    for other in others:
        _assert_same(expected, other)


def test_rank(predictor, pictures):
    given = [*pictures, pictures[1]]
    predicted = predictor.predict(given, "a cat")
    weights = {"plausibility": 2.0, "overall": 1.0}
    for by in ("overall", weights):
        ranked = predictor.rank(given, "a cat", by=by)
        values = [each.value for each in ranked]
        assert values == sorted(values, reverse=True)
        assert sorted(each.index for each in ranked) == [0, 1, 2, 3, 4]
        for each in ranked:
            _assert_same(each.prediction, predicted[each.index])
    one = ranked[0]
    scores = one.prediction.scores
    assert one.value == 2 * scores["plausibility"] + scores["overall"]
    places = [each.index for each in ranked]
    assert places.index(1) + 1 == places.index(4)  # equal ones keep their order
    assert predictor.rank([], []) == []


def test_mistakes(predictor, pictures):
    with pytest.raises(ValueError, match="by='beauty': expected scores .*aesthetics"):
        predictor.rank(pictures, "a cat", by="beauty")
    with pytest.raises(ValueError, match="by={}: expected scores"):
        predictor.rank(pictures, "a cat", by={})
    with pytest.raises(ValueError, match="got 2 images and 1 prompts"):
        predictor.predict(pictures[:2], ["a cat"])
    with pytest.raises(images.ImageError, match=r"images\[2\]: .*got int64\[4, 4\]"):
        given = [*pictures[:2], np.zeros((4, 4), int)]
        predictor.predict(given, "a cat", batch_size=2)
    with pytest.raises(images.ImageError, match=r"uint8\[0, 9, 3\]"):
        predictor.predict([np.zeros((0, 9, 3), np.uint8)], ["a cat"])
    with pytest.raises(ValueError, match="batch_size: expected a whole number"):
        predictor.predict(pictures, PROMPTS, batch_size=1.5)
    assert predictor.predict([], []) == []


def test_step_of_the_checkpoint(workdir):
    with pytest.raises(ValueError, match="has no best step: .* measured at none"):
        rahf.load(workdir, "best")
    for step in (7, "7"):
        with pytest.raises(ValueError, match="no step 7"):
            rahf.load(workdir, step)
    with pytest.raises(ValueError, match="step='bset': expected a number of steps, "):
        rahf.load(workdir, "bset")
