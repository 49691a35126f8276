"""Predicts with this folder alone; rahf is not needed.

    pip install "jax>=0.10" numpy pillow safetensors sentencepiece
    python predict.py "a red cat" cat.png

`python -m rahf.bin.export --format=stablehlo` put this file here, as an example of how
to call the program beside it: read `Folder.tokenize` before you write your own.
"""

import json
import pathlib
import re
import sys

import jax
import numpy as np
import sentencepiece
from jax import export
from PIL import Image, ImageOps
from safetensors.numpy import load_file

EOS_ID = 1
WORD = re.compile(r'[^,.?!":; ]+')
# What is decoded, whatever a file is called, and the most pixels an image may have:
# decoders outside this list may start other programs, and a file of a few bytes may
# ask for gigabytes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 100_000_000


def read_image(path):
    """Reads an image as in training: upright, 8-bit RGB, transparency over white."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"{path}: expected at most {MAX_PIXELS:,} pixels, got {image.width} x "
                f"{image.height}; make it smaller"
            )
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        grey = np.rint(np.asarray(image, np.float64).clip(0, 65535) * (255 / 65535))
        image = Image.fromarray(grey.astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def read_config(folder):
    """The config beside the program; ValueError where it is damaged."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}; copy it again") from error
    if not isinstance(config, dict) or not isinstance(config.get("input"), dict):
        raise ValueError(  # noqa: TRY004  the file is at fault
            f"{path} is not the config of an export; copy it again"
        )
    return config


class Folder:
    """The program, its parameters and its vocabulary."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self._words_only = read_config(folder)["input"].get("prompts") == "words"
        program = (folder / "program.stablehlo").read_bytes()
        self._program = export.deserialize(bytearray(program))
        self._params = jax.device_put(load_file(folder / "model.safetensors"))
        model = (folder / "vocabulary.model").read_bytes()
        # One tokenises text that starts a word, the other text that continues one: the
        # second has the option add_dummy_prefix=false appended.
        self._start = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._inside = sentencepiece.SentencePieceProcessor(
            model_proto=model + b"\x1a\x02\x18\x00"
        )
        # The arguments are parameters and batch; these are the batch's shapes by name.
        _, self.shapes = self._program.in_tree.unflatten(self._program.in_avals)[0]

    def tokenize(self, prompt):
        """Text -> ids, and for each id 1 where it ends a word.

        The prompt is split at spaces and after every word, and the parts are tokenised
        one by one, so that no piece crosses the end of a word.
        """
        if self._words_only:  # the model was trained without punctuation
            prompt = " ".join(WORD.findall(prompt))
        ids, ends = [], []
        for chunk in prompt.split(" "):
            done = 0
            places = [match.end() for match in WORD.finditer(chunk)]
            if not places or places[-1] < len(chunk):
                places.append(-1)  # the rest: punctuation after the last word
            for end in places:
                text = chunk[done:] if end < 0 else chunk[done:end]
                if not text:
                    continue
                pieces = (self._inside if done else self._start).encode(text)
                pieces = pieces or ([2] if end > 0 else [])  # 2 is "unknown"
                ids += pieces
                ends += [0] * (len(pieces) - 1) + [int(end > 0)] if pieces else []
                done = end
        return ids, ends

    def predict(self, images, prompts):
        """Image paths and their prompts -> {target: array}, one row per image.

        Heatmaps are float32[B, S, S] in [0, 1], scores float32[B] in [0, 1], and
        misaligned words float32[B, T], with each word's probability at its end.
        """
        size, side = self.shapes["image"].shape[:2]
        if not 0 < len(images) <= size:
            raise ValueError(f"the program takes 1 to {size} images, not {len(images)}")
        batch = {name: np.zeros(x.shape, x.dtype) for name, x in self.shapes.items()}
        for row, (path, prompt) in enumerate(zip(images, prompts, strict=True)):
            image = read_image(path).resize((side, side), Image.Resampling.BILINEAR)
            batch["image"][row] = np.asarray(image)
            ids, ends = self.tokenize(prompt)
            for name, values in (("inputs", ids), ("prompt", ids), ("word_ends", ends)):
                values = values[: self.shapes[name].shape[1] - 1]
                batch[name][row, : len(values)] = values
                batch[name][row, len(values)] = 0 if name == "word_ends" else EOS_ID
        outputs = jax.device_get(self._program.call(self._params, batch))
        return {name: value[: len(images)] for name, value in outputs.items()}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    prompt, image = sys.argv[1:]
    try:
        folder = Folder(pathlib.Path(__file__).parent)
        outputs = folder.predict([image], [prompt])
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        sys.exit(f"error: {error}")
    _, ends = folder.tokenize(prompt)
    answer = {}
    for name, value in outputs.items():
        if value.ndim == 1:
            answer[name] = round(float(value[0]), 4)
        elif value.ndim == 2:
            at = [i for i, end in enumerate(ends[: value.shape[1] - 1]) if end]
            chances = value[0][at].tolist()
            texts = WORD.findall(prompt)
            answer[name] = [[w, round(p, 4)] for w, p in zip(texts, chances)]
        else:
            place = np.unravel_index(value[0].argmax(), value[0].shape)
            answer[name] = {
                "highest": round(float(value[0].max()), 4),
                "at": [int(i) for i in place],
            }
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
