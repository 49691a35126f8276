"""A CLIP that was trained here, behind the interface of `rahf.load`."""

import dataclasses

import numpy as np

from rahf import images as images_lib
from rahf import words as words_lib
from rahf.baselines import clip_runs
from rahf.baselines.clip_tokenizer import Encoded
from rahf.inference.clip_predictor import ClipPredictor
from rahf.input import vocabulary
from rahf.input.vocabulary import EOS_ID, Vocabulary


@dataclasses.dataclass(frozen=True)
class TrainedInputs:
    """Inputs of a CLIP that was trained here, as its batches had them.

    Attributes:
      vocabulary: the run's.
      image_size: S.
      length: the number of tokens, config.input.target_length.
    """

    vocabulary: Vocabulary
    image_size: int
    length: int

    def crop(self, image: np.ndarray) -> np.ndarray:
        return self.whole(image)

    def whole(self, image: np.ndarray) -> np.ndarray:
        image = images_lib.resize(image, (self.image_size, self.image_size))
        return clip_runs.scale_pixels(image)

    def encode(self, prompt: str) -> Encoded:
        ids, ends, _ = self.vocabulary.encode_words(prompt)
        room = self.length - 1
        found = np.zeros(self.length, np.int32)
        kept = [*ids[:room], EOS_ID]
        found[: len(kept)] = kept
        places: list[tuple[int, ...]] = []
        start = 0
        for at in np.flatnonzero(ends).tolist():
            places.append(tuple(i for i in range(start, at + 1) if at < room))
            start = at + 1
        count = len(words_lib.split(prompt))
        places += [()] * (count - len(places))
        return Encoded(found, tuple(places), len(ids) > room)


def make_predictor(config, params, step: int) -> ClipPredictor:
    """Returns the predictor of a run whose `config.learner` is "clip"."""
    inputs = TrainedInputs(
        vocabulary.load(config.input.vocabulary),
        config.input.image_size,
        config.input.target_length,
    )
    score = clip_runs.score_of(config)
    predictor = ClipPredictor(
        clip_runs.make_clip(config),
        params,
        inputs,
        dataclasses.replace(clip_runs.ALIGNMENT, name=score),
        clip_runs.find_choice(config),
        # Where an image speaks for another score is no heatmap of people's.
        maps=score == clip_runs.SCORE,
    )
    predictor.config, predictor.step = config, step
    return predictor
