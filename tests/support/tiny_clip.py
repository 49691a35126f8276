"""A folder of a small random CLIP in Hugging Face's layout, with its tokenizer."""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

from tests.parity import clip_reference as reference
from tests.parity.reference import FIXTURES

LENGTH, SIDE = 24, reference.IMAGE
MERGES = json.loads((FIXTURES / "clip_tokens.json").read_text("utf-8"))["merges"][:40]


def weights() -> dict[str, np.ndarray]:
    """transformers' names -> float32, with a row for each token of the tokenizer."""
    found, generator = reference.huggingface_weights(), np.random.RandomState(5)
    for name, rows in (("token", 512 + len(MERGES) + 2), ("position", LENGTH)):
        key = f"text_model.embeddings.{name}_embedding.weight"
        shape = (rows, reference.TEXT_WIDTH)
        found[key] = generator.standard_normal(shape).astype(np.float32)
    return found


def write(folder: pathlib.Path, **text_config) -> pathlib.Path:
    """Writes weights, config.json, vocab.json and merges.txt."""
    folder.mkdir(exist_ok=True)
    save_file(weights(), folder / "model.safetensors")
    heads = {"num_attention_heads": reference.TEXT_HEADS, "eos_token_id": 2}
    config = {
        "vision_config": {"num_attention_heads": reference.IMAGE_HEADS},
        "text_config": heads | text_config,
    }
    (folder / "config.json").write_text(json.dumps(config))
    reference.write_vocabulary(folder, MERGES)
    return folder


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """uint8[H, W, 3] of noise."""
    generator = np.random.RandomState(6)
    return [
        generator.randint(0, 256, (*size, 3)).astype(np.uint8)
        for size in (sizes or ((12, 12), (20, 33), (40, 15)))
    ]
