"""Predicts with a probe of rahf.bin.probe as with a checkpoint."""

from collections.abc import Iterable

import ml_collections

from rahf.baselines.frozen_eyes import FrozenEyes
from rahf.baselines.probe import Probe
from rahf.checkpoints import provenance
from rahf.checkpoints.workdir import SEGMENTS
from rahf.inference import arguments
from rahf.inference.arguments import ImageLike
from rahf.inference.predictor import Prediction, Predictor


class ProbePredictor(Predictor):
    """A probe ready to predict: scores alone, from the image alone.

    Attributes: those of `Predictor`; the step is 0.
    """

    def __init__(self, probe: Probe):
        """Loads the eyes; `rahf.load` is the usual constructor.

        Raises:
          MissingExtraError: their weights are not installed.
        """
        self._probe = probe
        self._eyes = FrozenEyes.load(probe.eyes, probe.side)
        self.targets, self.step, self.features = probe.targets, 0, None
        self.params = {"probe": {"weights": probe.weights, "biases": probe.biases}}
        learned = {provenance.KEY: probe.about.get("learned_from") or {}}
        self.config = ml_collections.ConfigDict(
            {
                "input": {"image_size": probe.side, "text_length": 0},
                "task": {"name": probe.about.get("task", ""), "targets": probe.targets},
                SEGMENTS: [learned],
            }
        )

    def predict(
        self,
        images: Iterable[ImageLike] | ImageLike,
        prompts: Iterable[str] | str,
        batch_size: int = 16,
    ) -> list[Prediction]:
        """Predicts scores; see `Predictor.predict`. Prompts are kept, but not read."""
        arguments.check_batch_size(batch_size)
        images = arguments.list_images(images)
        prompts = arguments.list_prompts(prompts, len(images))
        sizes = []

        def pictures():
            for i, image in enumerate(images):
                picture = arguments.read_picture(image, f"images[{i}]")
                sizes.append(picture.shape[:2])
                yield picture

        rows = [self._probe.scores(row[None])[0] for row in self._eyes.look(pictures())]
        return [
            Prediction(
                prompt=prompt,
                scores=dict(zip(self.targets, row.tolist(), strict=True)),
                words=[],
                heatmaps={},
                image_size=size,
                prompt_truncated=False,
            )
            for prompt, row, size in zip(prompts, rows, sizes, strict=True)
        ]
