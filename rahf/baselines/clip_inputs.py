"""How images and texts enter a published CLIP."""

import dataclasses
from typing import Protocol

import numpy as np
from PIL import Image

from rahf.baselines.clip_tokenizer import ClipTokenizer, Encoded

#: Mean and standard deviation of the colours that OpenAI's CLIP was trained on.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class ClipInputs(Protocol):
    """What a predictor asks of the inputs of a CLIP."""

    def crop(self, image: np.ndarray) -> np.ndarray:
        """uint8[H, W, 3] -> float32[S, S, 3], as scores are computed."""
        ...

    def whole(self, image: np.ndarray) -> np.ndarray:
        """uint8[H, W, 3] -> float32[S, S, 3] of the whole image, for maps."""
        ...

    def encode(self, prompt: str) -> Encoded:
        """Returns the tokens of a prompt."""
        ...


@dataclasses.dataclass(frozen=True)
class PublishedInputs:
    """Inputs of published weights: byte pairs, and bicubic pictures.

    Scores see the middle square of an image whose shorter side was resized, as OpenAI's
    code does it; maps see the whole image, squeezed to a square.

    Attributes:
      tokenizer: the user's.
      image_size: S.
      length: the number of tokens.
      mean, deviation: of the colours, in [0, 1].
    """

    tokenizer: ClipTokenizer
    image_size: int
    length: int
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION

    def crop(self, image: np.ndarray) -> np.ndarray:
        side, (height, width) = self.image_size, image.shape[:2]
        shorter = min(height, width)
        height, width = (int(side * length / shorter) for length in (height, width))
        resized = _bicubic(image, (height, width))
        top, left = (round((length - side) / 2) for length in (height, width))
        return self._normalise(resized[top : top + side, left : left + side])

    def whole(self, image: np.ndarray) -> np.ndarray:
        return self._normalise(_bicubic(image, (self.image_size, self.image_size)))

    def encode(self, prompt: str) -> Encoded:
        return self.tokenizer.encode(prompt, self.length)

    def _normalise(self, image: np.ndarray) -> np.ndarray:
        mean, deviation = (np.array(x, np.float32) for x in (self.mean, self.deviation))
        return (image.astype(np.float32) / 255 - mean) / deviation


def _bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
