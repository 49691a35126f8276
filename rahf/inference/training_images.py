"""Summarises the features of the images that a checkpoint was trained on."""

import contextlib
import copy
import os

import jax
import numpy as np
from tqdm import tqdm

from rahf.checkpoints import feature_distance
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.restore import restore_for_inference, split_step
from rahf.inference.predict_step import compute_config
from rahf.inference.stages import Stages
from rahf.input.loader import make_train_input
from rahf.models import image_features, learners
from rahf.models.rahf import make_model

#: Training images that a summary is made of. A percentile is then good to about .3.
IMAGES = 1000
_BATCH = 16
# Draws for each image that is wanted: tasks of a mixture draw the same images.
_PATIENCE = 8


def summarise(
    workdir: str | os.PathLike,
    step: int | str | None = None,
    *,
    images: int = IMAGES,
    again: bool = True,
) -> str:
    """Measures training images and writes their summary beside the checkpoint.

    Args:
      workdir: the workdir of a training run, or the folder of one of its steps.
      step: a step, "latest" (default) or "best".
      images: the number of different training images, at most.
      again: whether to measure again where there is a summary.

    Returns:
      A line for people; "" where there was a summary already.

    Raises:
      ValueError: the checkpoint or its training data cannot be read.
      TooFewImagesError: there are fewer images than `feature_distance.LEAST`.
    """
    feature_distance.check_enough(images)
    workdir, step = split_step(workdir, step)
    config, params, found = restore_for_inference(workdir, step)
    if not again and feature_distance.read(workdir, found, params) is not None:
        return ""
    features = read_features(config, params, images)
    summary = feature_distance.FeatureSummary.fit(features)
    path = feature_distance.write(workdir, found, params, summary)
    return (
        f"{path}: features of {len(features):,} training images, by which predict says "
        "how far an image is from them"
    )


def summarise_run(workdir: str | os.PathLike, seen: int) -> str:
    """Summarises the last step of a complete run, unless that is done.

    Args:
      workdir: of the run.
      seen: the number of examples that it was trained on, repeated ones included.

    Returns:
      A line for people, or "" also where a run predicts nothing, such as a generator.
    """
    learner = workdirs.read_config(workdir).get("learner", learners.FEEDBACK)
    if learner not in (learners.FEEDBACK, "clip"):
        return ""
    try:
        return summarise(workdir, images=min(seen, IMAGES), again=False)
    except feature_distance.TooFewImagesError as error:
        return f"note: predict will not say how far an image is from these: {error}"


def read_features(config, params, images: int) -> np.ndarray:
    """Returns the features of training images, as they are drawn for training.

    Args:
      config: the training config. Images are not augmented: those to predict are not.
      params: the parameters.
      images: the number of different images, at most.

    Returns:
      float32[N, F].
    """
    config = copy.deepcopy(compute_config(config))
    with config.unlocked():
        config.input.batch_size = _BATCH
        config.input.workers = config.input.cache = 0
        if "augment" in config.input:
            config.input.augment.update(crop=1.0, flip=False, colour=0.0)
    model = make_model(config)

    @jax.jit
    def read(params, pictures):
        tokens = Stages(model, params).encode_image(pictures)
        return image_features.pool(model, tokens)

    drawn: dict[bytes, np.ndarray] = {}
    with contextlib.closing(make_train_input(config)) as batches:
        records = getattr(batches, "records", lambda: None)()
        images = min(images, records or images)
        with tqdm(total=images, unit="image", desc="training images") as bar:
            for _ in range(-(-images // _BATCH) * _PATIENCE):
                pictures = next(batches)["image"]
                rows = np.asarray(read(params, pictures))
                for picture, row in zip(pictures, rows, strict=True):
                    drawn.setdefault(np.asarray(picture).tobytes(), row)
                bar.update(min(len(drawn), images) - bar.n)
                if len(drawn) >= images:
                    break
    return np.stack(list(drawn.values())[:images])
