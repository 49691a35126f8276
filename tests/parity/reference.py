"""What the parity fixtures and their tests share; numpy alone.

Weights are drawn from four levels, so that a fixture holds two bits of each.
"""

import json
import pathlib
import zlib

import numpy as np

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
SAMPLES = 64  # gradient entries of a tensor that a fixture keeps

#: The sizes of the small models; T5's heads are narrower together than the model.
VIT = {"width": 32, "depth": 2, "mlp_dim": 64, "num_heads": 4}
IMAGE, PATCH, VOCABULARY = 48, 16, 96
T5 = {"embed_dim": 64, "head_dim": 8, "num_heads": 4, "mlp_dim": 80, "layers": 2}
PROMPT, SAID = 40, 20  # tokens
SCORE_WIDTH = 128


def draw(name: str, shape, seed: int = 0) -> np.ndarray:
    """Codes of a tensor, uint8 in [0, 4); the same wherever they are drawn."""
    generator = np.random.RandomState(zlib.crc32(name.encode()) ^ seed)
    return generator.randint(0, 4, size=shape).astype(np.uint8)


def pack(codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Codes -> arrays for a fixture: four to a byte, and their names and shapes."""
    flat = np.concatenate([x.reshape(-1) for x in codes.values()])
    flat = np.pad(flat, (0, -len(flat) % 4)).reshape(-1, 4)
    about = json.dumps([[name, list(x.shape)] for name, x in codes.items()])
    return {
        "codes": (flat << np.array([0, 2, 4, 6], np.uint8)).sum(1).astype(np.uint8),
        "about": np.frombuffer(about.encode(), np.uint8),
    }


def unpack(fixture) -> dict[str, np.ndarray]:
    """The weights of a fixture, float32 by PyTorch's names."""
    flat = (fixture["codes"][:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    flat, at, weights = flat.reshape(-1), 0, {}
    for name, shape in json.loads(fixture["about"].tobytes()):
        size = int(np.prod(shape))
        weights[name] = weigh(name, flat[at : at + size].reshape(shape))
        at += size
    return weights


def weigh(name: str, codes: np.ndarray) -> np.ndarray:
    """Codes -> float32 of a size that keeps activations alive."""
    values = (codes.astype(np.float32) - 1.5) / np.float32(1.25)
    if name.endswith("scale") or ("norm" in name and name.endswith("weight")):
        return 1 + values / 4
    if codes.ndim < 2:
        return values / 8
    if "shared" in name or "relative_attention_bias" in name:
        return values
    if codes.ndim == 4:  # [O, I, kh, kw] or, of a transposed one, [I, O, kh, kw]
        fan = (
            codes.shape[0 if "deconv" in name else 1] * codes.shape[2] * codes.shape[3]
        )
        return values * np.float32((1.5 / fan) ** 0.5)
    if codes.ndim == 3:
        return values / 2
    shrink = 0.3 if ".q." in name else 1.0  # T5 has no 1/sqrt(head_dim) at run time
    return values * np.float32(shrink * codes.shape[1] ** -0.5)


def sample(gradient: np.ndarray) -> np.ndarray:
    """The norm of a gradient and entries spread over it."""
    flat = np.asarray(gradient, np.float64).reshape(-1)
    at = np.linspace(0, len(flat) - 1, min(SAMPLES, len(flat))).astype(int)
    return np.concatenate([[np.linalg.norm(flat)], flat[at]]).astype(np.float32)


def feature_map() -> np.ndarray:
    """float32[2, G, G, SCORE_WIDTH], for a head alone."""
    side = IMAGE // PATCH
    generator = np.random.RandomState(8)
    return generator.standard_normal((2, side, side, SCORE_WIDTH)).astype(np.float32)


def inputs() -> dict[str, np.ndarray]:
    """Images, prompts, what is said and the truth of two examples, no padding."""
    generator = np.random.RandomState(7)
    ids = lambda length: np.concatenate(
        [generator.randint(3, VOCABULARY, (2, length - 1)), np.ones((2, 1), int)], 1
    )
    return {
        "image": generator.randint(0, 256, (2, IMAGE, IMAGE, 3)).astype(np.uint8),
        "inputs": ids(PROMPT).astype(np.int32),
        "said": ids(SAID).astype(np.int32),
        "heatmap": generator.rand(2, IMAGE, IMAGE).astype(np.float32),
        "score": generator.rand(2).astype(np.float32),
    }


def draw_network(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The weights of a convolutional network, float32 by name, none stored."""
    weights = {}
    for name, shape in shapes.items():
        values = (draw(name, shape).astype(np.float32) - 1.5) / np.float32(1.25)
        if name.endswith("running_var"):
            values = 1 + values / 2
        elif len(shape) == 4:
            out = shape[-1 if "/" in name else 0]
            values = values * np.float32((2 * out / np.prod(shape)) ** 0.5)
        elif name.endswith(("weight", "gamma")):
            values = 1 + values / 4
        else:
            values = values / 8
        weights[name] = values
    return weights


def draw_vit(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The weights of a ViT, float32 by name, none stored."""
    return {name: weigh(name, draw(name, shape)) for name, shape in shapes.items()}


def picture(side: int) -> np.ndarray:
    """uint8[1, side, side, 3] of noise."""
    generator = np.random.RandomState(0)
    return generator.randint(0, 256, (1, side, side, 3)).astype(np.uint8)


def names_and_shapes(fixture) -> dict[str, list[int]]:
    """Their names of a network's parameters, and the shapes, from a fixture."""
    return json.loads(fixture["about"].tobytes())


def pack_names(shapes: dict[str, list[int]]) -> np.ndarray:
    """Inverts `names_and_shapes`."""
    return np.frombuffer(json.dumps(shapes).encode(), np.uint8)
