"""Loads a checkpoint once, then predicts any number of times.

predictor = rahf.load("runs/scenes")
[prediction] = predictor.predict(["cat.png"], ["a red cat"])
prediction.scores["plausibility"]  # 0.91
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rahf import images as images_lib
from rahf import targets
from rahf import words as words_lib
from rahf.baselines import probe
from rahf.checkpoints import feature_distance
from rahf.checkpoints.restore import restore_for_inference, split_step
from rahf.inference import arguments, kept_programs
from rahf.inference import intervals as intervals_lib
from rahf.inference.arguments import ImageLike
from rahf.inference.predict_step import (
    FEATURES,
    cast_params,
    compute_config,
    make_predict_prompts,
)
from rahf.input import vocabulary
from rahf.input.converter import Converter
from rahf.input.features import FeatureMaker
from rahf.input.registry import import_modules
from rahf.models import learners, passes
from rahf.targets import Kind


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of the prompt, and whether the image fails to show it.

    Attributes:
      text: the word as written in the prompt.
      probability: the probability in [0, 1] that the word is not shown.
      misaligned: whether the probability is above the target's `cut`.
    """

    text: str
    probability: float
    misaligned: bool


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a person would say about an image.

    Attributes:
      prompt: the text that the image was judged against.
      scores: scores by target, in [0, 1], higher is better: (mean Likert answer - 1)
        / 4. 0.5 is the middle of the scale and the suggested threshold.
      words: the words of the prompt in order, without those cut off from a long
        prompt.
      heatmaps: heatmaps by target, float32[S, S] in [0, 1], higher is worse; they cover
        the whole image, whatever its aspect ratio.
      image_size: (height, width) of the image as given.
      prompt_truncated: whether the prompt was longer than the model reads.
      distance: how far the image is from those that the checkpoint was trained on, by
        the checkpoint's own features: the percentage of training images that are
        nearer. None if the checkpoint has no summary of their features. No measure of
        quality, see `rahf.checkpoints.feature_distance`.
      intervals: (low, high) in [0, 1] of each score, if the checkpoint was calibrated
        (`rahf.bin.calibrate`).
      interval_level: the share of images whose true score an interval holds.
    """

    prompt: str
    scores: dict[str, float]
    words: list[Word]
    heatmaps: dict[str, np.ndarray]
    image_size: tuple[int, int]
    prompt_truncated: bool
    distance: float | None = None
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    interval_level: float | None = None


@dataclasses.dataclass(frozen=True)
class RankedImage:
    """An image's place in `Predictor.rank`.

    Attributes:
      index: its index among the images given.
      value: the value it is ranked by.
      prediction: its prediction.
    """

    index: int
    value: float
    prediction: Prediction


class Predictor:
    """A model ready to predict; keeps its parameters and compiled functions.

    Attributes:
      config: the training config.
      step: the step of the checkpoint.
      params: its parameters, as trained.
      targets: the names of the targets it predicts.
      features: the features of its training images, if they were summarised.
      intervals: the intervals of scores, None if the checkpoint was not calibrated.
    """

    intervals: intervals_lib.Intervals | None = None

    def __init__(
        self,
        config,
        params,
        step: int,
        features: feature_distance.FeatureSummary | None = None,
    ):
        """Prepares prediction; `load` is the usual constructor."""
        try:
            rows = targets.select(config.task.targets)
        except ValueError:  # a user's target, registered by one of the modules
            import_modules(config)
            rows = targets.select(config.task.targets)
        self.config, self.step, self.params = config, step, params
        self.features = features
        self._sizes: set[int] = set()  # batch sizes compiled so far
        rows = [
            row for row in rows if row.kind in (Kind.HEATMAP, Kind.SCORE, Kind.WORDS)
        ]
        self.targets = tuple(row.name for row in rows)
        self._vocabulary = vocabulary.load(config.input.vocabulary)
        self._maker = FeatureMaker.from_config(config, self._vocabulary)
        self._converter = Converter.from_config(config)
        marks = self._vocabulary.mark_ids
        self._augmented = passes.is_augmented(config)
        self._asked = passes.targets_of_prompts(config, self.targets)
        computed = compute_config(config)
        self._run = make_predict_prompts(
            computed, marks, self.targets, features=features is not None
        )
        self._cast_params = cast_params(params, computed.model.dtype)

    def predict(
        self,
        images: Iterable[ImageLike] | ImageLike,
        prompts: Iterable[str] | str,
        batch_size: int = 16,
    ) -> list[Prediction]:
        """Predicts feedback on images.

        A prediction does not depend on the other images of its batch. Batches are
        padded to a size compiled before, or else to a power of two.

        Args:
          images: an iterable of images, or a single one. Each is a path, encoded bytes,
            an open binary file, a Pillow image, or an array [H, W], [H, W, 3] or
            [H, W, 4] of uint8 or of floats in [0, 1]. Transparency is laid over white.
          prompts: one text for each image, or a single text for all.
          batch_size: images per batch.

        Returns:
          One prediction per image.

        Raises:
          ValueError: the numbers of prompts and images differ, or a prompt is not text.
          rahf.images.ImageError: an image cannot be read; the message has its index.
        """
        batch_size = arguments.check_batch_size(batch_size)
        images = arguments.list_images(images)
        prompts = arguments.list_prompts(prompts, len(images))
        predictions = []
        for start in range(0, len(images), batch_size):
            end = start + batch_size
            named = [
                (f"images[{i}]", image)
                for i, image in enumerate(images[start:end], start)
            ]
            predictions += self._predict_batch(named, prompts[start:end])
        return predictions

    def rank(
        self,
        images: Iterable[ImageLike] | ImageLike,
        prompts: Iterable[str] | str,
        by: str | Mapping[str, float] = "overall",
        batch_size: int = 16,
    ) -> list[RankedImage]:
        """Predicts images and sorts them, the best first; equal ones keep their order.

        Args:
          images, prompts, batch_size: see `predict`.
          by: a score, or the weight of each of several, whose weighted sum counts.

        Returns:
          Every image, with its index, value and prediction.

        Raises:
          ValueError: `by` names a score that the model does not predict, or see
            `predict`.
        """
        weights = {by: 1.0} if isinstance(by, str) else dict(by)
        known = [name for name in self.targets if targets.get(name).kind is Kind.SCORE]
        unknown = [name for name in weights if name not in known]
        if unknown or not weights:
            raise ValueError(
                f"by={by!r}: expected scores that the model predicts: "
                f"{', '.join(known) or 'it predicts none'}"
            )
        found = [
            RankedImage(
                index,
                sum(weight * each.scores[name] for name, weight in weights.items()),
                each,
            )
            for index, each in enumerate(self.predict(images, prompts, batch_size))
        ]
        return sorted(found, key=lambda ranked: -ranked.value)

    def _predict_batch(
        self, images: Sequence[tuple[str, Any]], prompts: Sequence[str]
    ) -> list[Prediction]:
        square = (self.config.input.image_size,) * 2
        records, sizes = [], []
        for (name, image), prompt in zip(images, prompts, strict=True):
            picture = arguments.read_picture(
                image, name
            )  # one by one: they may be large
            sizes.append(picture.shape[:2])
            picture = images_lib.resize(picture, square)
            records.append({"uid": name, "image": picture, "prompt": prompt})
        rows = self._batch_size(len(records))
        batches = []
        truncated = np.zeros(len(records), bool)
        for names in self._asked:
            examples = [
                self._maker.make(record, names, augment=self._augmented)
                for record in records
            ]
            truncated |= [bool(example["truncated"][0]) for example in examples]
            batches.append(self._converter(examples, rows))
        batch = {key: batches[0][key] for key in ("image", "prompt", "word_ends")}
        batch["inputs"] = np.stack([each["inputs"] for each in batches])
        outputs = self._run(self._cast_params, batch)
        outputs = jax.device_get(outputs)
        distances = [None] * rows
        if self.features is not None:
            distances = self.features.percentiles(outputs.pop(FEATURES)).tolist()
        found = [
            self._prediction(
                {name: value[i] for name, value in outputs.items()},
                batch["word_ends"][i],
                prompt=prompts[i],
                image_size=sizes[i],
                truncated=bool(truncated[i]),
                distance=distances[i],
            )
            for i in range(len(records))
        ]
        if self.intervals is None:
            return found
        return [self._calibrated(each, self.intervals) for each in found]

    def _calibrated(self, prediction, calibration: intervals_lib.Intervals):
        return dataclasses.replace(
            prediction,
            intervals=calibration.around(prediction.scores),
            interval_level=calibration.level,
        )

    def _batch_size(self, count: int) -> int:
        """Returns the rows to compute for `count` images; each new size compiles."""
        fitting = [size for size in self._sizes if size >= count]
        rows = min(fitting, default=1 << (count - 1).bit_length())
        self._sizes.add(rows)
        return rows

    def _prediction(
        self, outputs, word_ends, *, prompt, image_size, truncated, distance=None
    ):
        # In the table's order; JAX sorts the keys of what a function returns.
        of_kind = {
            kind: {
                name: value
                for name, value in targets.ordered(outputs).items()
                if targets.get(name).kind is kind
            }
            for kind in Kind
        }
        words = []
        for name, probabilities in of_kind[Kind.WORDS].items():
            cut = targets.get(name).cut
            chances = probabilities[word_ends > 0].tolist()
            texts = words_lib.split(prompt)  # more than chances if truncated
            words = [
                Word(text, chance, chance > cut)
                for text, chance in zip(texts, chances, strict=False)
            ]
        return Prediction(
            prompt=prompt,
            scores={name: float(value) for name, value in of_kind[Kind.SCORE].items()},
            words=words,
            heatmaps=of_kind[Kind.HEATMAP],
            image_size=image_size,
            prompt_truncated=truncated,
            distance=distance,
        )


def load(workdir: str | os.PathLike, step: int | str | None = None) -> Predictor:
    """Loads a checkpoint for prediction, offline and on any JAX device.

    Compiled programs are kept on disk from now on (`rahf.compilation_cache`).

    Args:
      workdir: the workdir of `python -m rahf.bin.train`, an exported folder, or the
        folder of `python -m rahf.bin.probe`.
      step: a step, "latest" (default) or "best".

    Returns:
      The predictor. Keep it, so that loading and compiling happen only once. That of a
      CLIP is a `rahf.inference.clip_predictor.ClipPredictor` (docs/baselines.md).

    Raises:
      ValueError: the folder is not a workdir, or has no complete checkpoint of this
        step.
    """
    if isinstance(step, str) and step not in ("latest", "best"):
        if not step.isdecimal():
            raise ValueError(
                f"step={step!r}: expected a number of steps, 'latest' or 'best'"
            )
        step = int(step)
    kept_programs.use()
    if probe.is_probe(workdir):
        from rahf.inference.probe_predictor import ProbePredictor  # it is a Predictor

        if step not in (None, "latest", "best"):
            raise ValueError(f"step={step!r}: {workdir} is a probe, which has no steps")
        return ProbePredictor(probe.read(workdir))
    workdir, step = split_step(os.fspath(workdir), step)
    config, params, found = restore_for_inference(workdir, step)
    if config.get("learner") == "clip":
        from rahf.inference import clip_run  # which imports this module

        clip: Any = clip_run.make_predictor(config, params, found)
        return clip
    learners.check_feedback(config)
    features = feature_distance.read(workdir, found, params)
    predictor = Predictor(config, params, found, features)
    predictor.intervals = intervals_lib.read(workdir, found, params)
    return predictor
