"""CLIP's gradient maps against finite differences of a second, plain implementation."""

import itertools

import jax
import numpy as np
import pytest
from scipy import ndimage

from rahf.baselines import clip_maps
from rahf.baselines.clip_maps import DEFINITIONS, MapChoice
from rahf.models.clip import Clip, ClipConfig
from rahf.weights import clip, matching
from tests.parity import clip_reference as reference

GRID = reference.IMAGE // reference.PATCH


@pytest.fixture(scope="module")
def arrays():
    weights = reference.openai_weights()
    return clip._rename(weights, False, "")


@pytest.fixture(scope="module")
def model(arrays):
    shapes = {name: x.shape for name, x in arrays.items()}
    heads = {"image_heads": reference.IMAGE_HEADS, "text_heads": reference.TEXT_HEADS}
    return Clip(ClipConfig.from_shapes(shapes, **heads))


class _Plain:
    """CLIP of one image and one text in float64, whose insides can be moved."""

    def __init__(self, arrays, image, tokens):
        self.arrays = {k: np.float64(v) for k, v in arrays.items()}
        self.image, self.tokens = np.float64(image), tokens
        self.seen, self.moves = {}, {}

    def _see(self, name, value):
        self.seen[name] = value
        return value + self.moves.get(name, 0)

    def _linear(self, x, name):
        return x @ self.arrays[f"{name}/kernel"] + self.arrays[f"{name}/bias"]

    def _norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        return x * self.arrays[f"{name}/scale"] + self.arrays[f"{name}/bias"]

    def _block(self, x, at, heads, causal):
        count, width = x.shape
        y = self._see(f"{at} normed", self._norm(x, f"{at}/norm_1"))
        split = lambda z: z.reshape(count, heads, -1).transpose(1, 0, 2)
        q, k, v = (
            self._linear(y, f"{at}/attention/{n}") for n in ("query", "key", "value")
        )
        for name, value in (("q", q), ("k", k), ("v", v)):
            self.seen[f"{at} {name}"] = value
        logits = split(q) @ split(k).transpose(0, 2, 1) / np.sqrt(width / heads)
        if causal:
            logits = np.where(np.tril(np.ones((count, count))) > 0, logits, -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = self._see(f"{at} weights", weights / weights.sum(-1, keepdims=True))
        mixed = (weights @ split(v)).transpose(1, 0, 2).reshape(count, width)
        mixed = self._see(f"{at} mixed", mixed)
        x = x + self._linear(mixed, f"{at}/attention/out")
        y = self._linear(self._norm(x, f"{at}/norm_2"), f"{at}/mlp/in")
        return x + self._linear(y / (1 + np.exp(-1.702 * y)), f"{at}/mlp/out")

    def cosine(self):
        a, side = self.arrays, reference.PATCH
        kernel = a["image/patch_embedding/kernel"]
        patches = [
            np.einsum("hwc,hwcd->d", self.image[y : y + side, x : x + side], kernel)
            for y, x in itertools.product(range(0, reference.IMAGE, side), repeat=2)
        ]
        x = np.stack([a["image/class_embedding"], *patches])
        x = self._norm(x + a["image/position_embedding"], "image/norm_before")
        for i in range(reference.DEPTH):
            x = self._block(x, f"image/blocks_{i}", reference.IMAGE_HEADS, False)
        image = self._norm(x[0], "image/norm_after") @ a["image/projection"]
        x = a["text/token_embedding"][self.tokens] + a["text/position_embedding"]
        for i in range(reference.DEPTH):
            x = self._block(x, f"text/blocks_{i}", reference.TEXT_HEADS, True)
        x = self._norm(x[self.tokens.argmax()], "text/norm_after")
        text = x @ a["text/projection"]
        return image @ text / np.linalg.norm(image) / np.linalg.norm(text)

    def slope(self, name):
        """d cosine / d what happens at a place, by central differences."""
        self.cosine()
        base, slope = self.seen[name], np.zeros_like(self.seen[name])
        for index in np.ndindex(base.shape):
            ends = []
            for sign in (1e-5, -1e-5):
                move = np.zeros_like(base)
                move[index] = sign
                self.moves = {name: move}
                ends.append(self.cosine())
            slope[index] = (ends[0] - ends[1]) / 2e-5
        self.moves = {}
        self.cosine()
        return slope


@pytest.fixture(scope="module")
def found(model, arrays):
    """The maps of three images and texts by every definition, and a plain model."""
    inputs = reference.inputs(2)
    params = matching.unflatten(arrays)

    @jax.jit
    def run(images, tokens):
        found = clip_maps.matches(model, params, images, tokens, tuple(DEFINITIONS))
        one = MapChoice("grad_cam", "negative")
        return *found, clip_maps.explain(model, params, images, tokens, one)

    return jax.device_get(run(inputs["images"], inputs["tokens"]))


@pytest.fixture
def plain(arrays):
    inputs = reference.inputs(2)
    return _Plain(arrays, inputs["images"][1], inputs["tokens"][1])


def _near(got, wanted):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got / scale, wanted / scale, atol=1e-4)


def test_the_two_networks_agree(found, plain):
    for cosines in (found[0], found[3][0]):
        np.testing.assert_allclose(cosines[1], plain.cosine(), atol=1e-5)


def test_pixels(found, plain):
    slope = np.zeros((reference.IMAGE, reference.IMAGE, 3))
    for index in np.ndindex(slope.shape):
        ends = []
        for sign in (1e-4, -1e-4):
            plain.image[index] += sign
            ends.append(plain.cosine())
            plain.image[index] -= sign
        slope[index] = (ends[0] - ends[1]) / 2e-4
    wanted = ndimage.gaussian_filter(
        np.abs(slope).sum(-1), 2.0, mode="mirror", radius=int(3 * 2.0) + 1
    )
    _near(found[1]["pixels"][1], wanted)


def test_grad_cam(found, plain):
    at = f"image/blocks_{reference.DEPTH - 1} normed"
    weight = plain.slope(at)[1:].mean(axis=0)
    wanted = (plain.seen[at][1:] * weight).sum(-1).reshape(GRID, GRID)
    _near(found[1]["grad_cam"][1], wanted)


def test_grad_eclip(found, plain):
    at = f"image/blocks_{reference.DEPTH - 1}"
    weight = plain.slope(f"{at} mixed")[0]
    q, k, v = (plain.seen[f"{at} {name}"] for name in "qkv")
    alike = k[1:] @ q[0] / np.linalg.norm(k[1:], axis=1) / np.linalg.norm(q[0])
    alike = (alike - alike.min()) / (alike.max() - alike.min())
    wanted = (v[1:] @ weight * alike).reshape(GRID, GRID)
    _near(found[1]["grad_eclip"][1], wanted)


def test_relevance(found, plain):
    relevance = np.eye(GRID**2 + 1)
    for i in range(reference.DEPTH):
        at = f"image/blocks_{i} weights"
        slope = plain.slope(at)
        step = np.maximum((slope * plain.seen[at]).mean(axis=0), 0)
        relevance += step @ relevance
    wanted = relevance[0, 1:].reshape(GRID, GRID)
    assert wanted.max() > 0
    _near(found[1]["relevance"][1], wanted)


def test_tokens(found, plain):
    wanted = np.zeros(reference.LENGTH)
    end = plain.tokens.argmax()
    for i in range(reference.DEPTH):
        at = f"text/blocks_{i} weights"
        slope = plain.slope(at)
        wanted += np.maximum((slope * plain.seen[at]).mean(axis=0), 0)[end]
    assert wanted.max() > 0
    _near(found[2][1], wanted)
    _near(found[3][2][1], wanted)


@pytest.mark.parametrize("reading", clip_maps.READINGS)
def test_readings(found, reading):
    for definition, match in found[1].items():
        if reading == "negative" and definition in ("pixels", "relevance"):
            with pytest.raises(ValueError, match="has no sign"):
                MapChoice(definition, reading)
            continue
        flat = match.reshape(len(match), -1)
        read = np.asarray(clip_maps.READINGS[reading](flat))
        assert read.min() >= 0 and read.max() <= 1
        most, least = flat.argmax(axis=1), flat.argmin(axis=1)
        rows = np.arange(len(flat))
        if reading == "high":
            assert (read[rows, most] >= read[rows, least]).all()
            np.testing.assert_allclose(read[rows, most], 1, atol=1e-6)
        else:
            assert (read[rows, most] <= read[rows, least]).all()
            np.testing.assert_allclose(read[rows, most], 0, atol=1e-6)
        if reading == "negative":
            wanted = np.maximum(-flat, 0) / np.abs(flat).max(axis=1, keepdims=True)
            np.testing.assert_allclose(read, wanted, rtol=1e-5)


def test_explaining_reads_the_map_and_enlarges_it(found):
    maps = found[3][1]
    assert maps.shape == (3, reference.IMAGE, reference.IMAGE)
    small = clip_maps.READINGS["negative"](found[1]["grad_cam"].reshape(3, -1))
    small = np.asarray(small).reshape(3, GRID, GRID)
    middle = maps[:, 1::4, 1::4] + maps[:, 2::4, 2::4]  # about the patches' middles
    assert small.max() > 0
    np.testing.assert_allclose(middle / 2, small, atol=0.15)


def test_a_constant_map_is_no_map():
    flat = np.zeros((1, 4), np.float32)
    assert (np.asarray(clip_maps.READINGS["high"](flat)) == 0).all()
    assert (np.asarray(clip_maps.READINGS["negative"](flat)) == 0).all()


def test_words_by_hand():
    tokens = np.float32([[0, 2, 1, 1, 0, 9]])
    owners = np.zeros((1, 4, 6), bool)
    owners[0, 0, 1] = owners[0, 1, 2] = owners[0, 1, 3] = owners[0, 2, 4] = True
    doubt = np.asarray(clip_maps.doubt_words(tokens, owners))
    np.testing.assert_allclose(doubt, [[0, 0, 1, 0]])  # the last has no tokens
    owners[0, 1, 3] = False
    doubt = np.asarray(clip_maps.doubt_words(tokens, owners))
    np.testing.assert_allclose(doubt, [[0, 0.5, 1, 0]])
    assert not np.asarray(clip_maps.doubt_words(0 * tokens, owners)).any()


def test_unknown_choices():
    with pytest.raises(ValueError, match="expected one of pixels, grad_cam"):
        MapChoice("gradient")
    with pytest.raises(ValueError, match="expected one of low"):
        MapChoice("pixels", "middle")
