"""Load a checkpoint once, then predict as often as you like.

predictor = rahf.load("runs/scenes")
[prediction] = predictor.predict(["cat.png"], ["a red cat"])
prediction.scores["plausibility"]  # 0.91
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from rahf import images as images_lib
from rahf import targets as table
from rahf import words as words_lib
from rahf.checkpoints.checkpoint import restore_for_inference
from rahf.inference.predict_step import make_encode_image, make_predict_step
from rahf.input import vocabulary
from rahf.input.converter import Converter
from rahf.input.features import FeatureMaker
from rahf.input.registry import import_modules
from rahf.targets import Kind

ImageLike = np.ndarray | Image.Image | bytes | str | os.PathLike


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of the prompt, and whether the image fails to show it.

    Attributes:
      text: as it stands in the prompt.
      probability: in [0, 1], that it is not shown.
      misaligned: whether the probability passes the target's threshold.
    """

    text: str
    probability: float
    misaligned: bool


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a person would say about an image.

    Attributes:
      prompt: the text it was judged against.
      scores: by target, in [0, 1], higher is better: (mean Likert answer - 1) / 4.
        0.5 is the middle of the scale and the suggested threshold.
      words: of the prompt in order; those cut off with a too long prompt are
        missing.
      heatmaps: by target, float32[S, S] in [0, 1], higher is worse, over the whole
        image whatever its aspect.
      image_size: (height, width) of the image as it was given.
      prompt_truncated: the prompt had more pieces than the model reads.
    """

    prompt: str
    scores: dict[str, float]
    words: list[Word]
    heatmaps: dict[str, np.ndarray]
    image_size: tuple[int, int]
    prompt_truncated: bool


class Predictor:
    """A model ready to predict; compiled functions and parameters stay with it.

    Attributes:
      config: the training config.
      step: of the checkpoint.
      targets: the names it predicts.
    """

    def __init__(self, config, params, step: int):
        """Prepares; see `load` for the usual way here."""
        try:
            rows = table.select(config.task.targets)
        except ValueError:  # a user's target, registered by one of the modules
            import_modules(config)
            rows = table.select(config.task.targets)
        self.config, self.step, self._params = config, step, params
        self._sizes: set[int] = set()  # of batches that have been compiled
        rows = [row for row in rows if row.kind not in (Kind.CAPTION, Kind.PIECES)]
        self.targets = tuple(row.name for row in rows)
        self._vocabulary = vocabulary.load(config.input.vocabulary)
        self._maker = FeatureMaker.from_config(config, self._vocabulary)
        self._converter = Converter.from_config(config)
        marks = self._vocabulary.mark_ids
        self._encode_image = make_encode_image(config)
        self._augmented = config.model.variant == "augmented"
        # What is asked at once: everything, or in the augmented variant a target.
        # Targets of one kind share a head there, and so one compiled function.
        if self._augmented:
            of_kind = {
                kind: make_predict_step(
                    config, marks, [row.name for row in rows if row.kind is kind]
                )
                for kind in {row.kind for row in rows}
            }
            self._asks = [((row.name,), of_kind[row.kind]) for row in rows]
        else:
            predict = make_predict_step(config, marks, self.targets)
            self._asks = [(self.targets, predict)]

    def predict(
        self,
        images: Sequence[ImageLike],
        prompts: Sequence[str],
        batch_size: int = 16,
    ) -> list[Prediction]:
        """Predicts feedback on images.

        A prediction does not depend on what else is in the batch. Batches are
        filled up to a size that has been compiled before, or to a power of two.

        Args:
          images: paths, encoded bytes, Pillow images or uint8[H, W, 3] arrays.
          prompts: one for each image.
          batch_size: how many at a time.

        Returns:
          One prediction for each image.

        Raises:
          ValueError: there are not as many prompts as images, or one is no text.
          rahf.images.ImageError: an image cannot be read.
        """
        if len(images) != len(prompts):
            raise ValueError(
                f"expected a prompt for each image, got {len(images)} images and "
                f"{len(prompts)} prompts"
            )
        odd = [prompt for prompt in prompts if not isinstance(prompt, str)]
        if odd or isinstance(prompts, str):
            raise ValueError(
                f"expected a list of texts as prompts, got {odd[0] if odd else prompts!r}"
            )
        if batch_size < 1:
            raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
        predictions = []
        for start in range(0, len(images), batch_size):
            chunk = slice(start, start + batch_size)
            predictions += self._predict_batch(images[chunk], prompts[chunk])
        return predictions

    def _predict_batch(self, images, prompts) -> list[Prediction]:
        pictures = [_read(image) for image in images]
        square = (self.config.input.image_size,) * 2
        records = [
            {
                "uid": str(i),
                "image": images_lib.resize(picture, square),
                "prompt": prompt,
            }
            for i, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True))
        ]
        rows = self._batch_size(len(records))
        outputs: dict[str, Any] = {}
        truncated = np.zeros(len(records), bool)
        image_tokens = None
        for names, predict in self._asks:
            examples = [
                self._maker.make(record, names, augment=self._augmented)
                for record in records
            ]
            truncated |= [bool(example["truncated"][0]) for example in examples]
            batch = self._converter(examples, rows)
            if image_tokens is None:
                image_tokens = self._encode_image(self._params, batch["image"])
            inputs = {key: batch[key] for key in ("inputs", "prompt", "word_ends")}
            found = predict(self._params, inputs | {"image_tokens": image_tokens})
            outputs |= {name: found[name] for name in names}
        outputs = jax.device_get(outputs)
        return [
            self._prediction(
                {name: value[i] for name, value in outputs.items()},
                batch["word_ends"][i],
                prompt=prompts[i],
                image_size=pictures[i].shape[:2],
                truncated=bool(truncated[i]),
            )
            for i in range(len(records))
        ]

    def _batch_size(self, count: int) -> int:
        """The rows to compute for `count` images; compiling costs seconds."""
        fitting = [size for size in self._sizes if size >= count]
        rows = min(fitting, default=1 << (count - 1).bit_length())
        self._sizes.add(rows)
        return rows

    def _prediction(self, outputs, word_ends, *, prompt, image_size, truncated):
        of_kind = {
            kind: {
                name: value
                for name, value in outputs.items()
                if table.get(name).kind is kind
            }
            for kind in Kind
        }
        words = []
        for name, probabilities in of_kind[Kind.WORDS].items():
            threshold = table.get(name).threshold or 0.5
            chances = probabilities[word_ends > 0].tolist()
            texts = words_lib.split(prompt)  # more of them, where truncated
            words = [
                Word(text, chance, chance > threshold)
                for text, chance in zip(texts, chances, strict=False)
            ]
        return Prediction(
            prompt=prompt,
            scores={name: float(value) for name, value in of_kind[Kind.SCORE].items()},
            words=words,
            heatmaps=of_kind[Kind.HEATMAP],
            image_size=image_size,
            prompt_truncated=truncated,
        )


def _read(image: ImageLike) -> np.ndarray:
    """Returns uint8[H, W, 3]."""
    if isinstance(image, Image.Image):
        return images_lib.from_pillow(image)
    if not isinstance(image, np.ndarray):
        return images_lib.read_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise images_lib.ImageError(
            "an array",
            "uint8[H, W, 3]",
            f"{image.dtype}{list(image.shape)}",
            "give a path or a Pillow image, and it is converted",
        )
    return image


def load(workdir: str | os.PathLike, step: int | str | None = None) -> Predictor:
    """Loads a checkpoint for prediction; works offline, on any JAX device.

    Args:
      workdir: of `python -m rahf.bin.train`.
      step: a step, "latest" (default) or "best".

    Returns:
      The predictor. Keep it: loading and compiling are paid once.

    Raises:
      ValueError: the folder is no workdir, or holds no complete checkpoint.
    """
    return Predictor(*restore_for_inference(os.fspath(workdir), step))
