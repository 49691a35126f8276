"""Muse, ready to generate: `load(workdir).generate(prompts, seeds)`."""

import functools
import os
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rahf.checkpoints import ancestry, identity
from rahf.checkpoints.restore import restore_for_inference, split_step
from rahf.generators.muse.learner import to_float
from rahf.generators.muse.model import Muse, MuseConfig
from rahf.generators.muse.sampling import SamplingOptions, fill, tokens_under
from rahf.generators.painting import (
    check_image,
    check_images_and_masks,
    check_requests,
    paste,
)
from rahf.input import vocabulary
from rahf.input.features import FeatureMaker
from rahf.input.loader import make_eval_batches


class MuseGenerator:
    """Makes and mends images; keeps its parameters and compiled functions.

    Attributes:
      size: (height, width) of its images in pixels.
      options: how it samples.
      batch_size: how many images it makes at once.
      digest: of its parameters (`rahf.checkpoints.identity`).
      sources: the folders of images that it learned from (`rahf.checkpoints.ancestry`).
    """

    def __init__(
        self,
        config,
        params,
        options: SamplingOptions | None = None,
        batch_size: int = 20,
        digest: str = "",
    ):
        """Prepares generation; `load` is the usual constructor."""
        self._config, self._params, self.batch_size = config, params, batch_size
        self.digest, self.sources = digest, ancestry.image_sources(config)
        self._muse = MuseConfig.from_config(config)
        self._maker = FeatureMaker.from_config(
            config, vocabulary.load(config.input.vocabulary)
        )
        self.options = options or SamplingOptions()
        self.size: tuple[int, int] = (self._muse.image_size, self._muse.image_size)
        model = Muse(self._muse)
        codes, stride = self._muse.tokenizer.codes, self._muse.tokenizer.stride
        apply = lambda params, *args, method: model.apply(
            {"params": params}, *args, method=method
        )

        def paint(params, tokens, unknown, text, seeds):
            found = fill(
                functools.partial(apply, params, method="logits"),
                *(tokens, unknown, text),
                _keys(seeds, text),
                self.options,
                codes,
            )
            return apply(params, found, method="images")

        @jax.jit
        def generate(params, text, seeds):
            grid = (len(text), self._muse.grid, self._muse.grid)
            unknown = jnp.ones(grid, bool)
            return paint(params, jnp.zeros(grid, jnp.int32), unknown, text, seeds)

        @jax.jit
        def inpaint(params, images, masks, text, seeds):
            tokens = apply(params, to_float(images), method="tokens")
            return paint(params, tokens, tokens_under(masks, stride), text, seeds)

        @jax.jit
        def tokens(params, images):
            return apply(params, to_float(images), method="tokens")

        self._generate, self._inpaint, self._tokens = generate, inpaint, tokens

    @classmethod
    def load(
        cls, workdir, step=None, options: SamplingOptions | None = None
    ) -> "MuseGenerator":
        """Loads a generator from the workdir of its training, or one step's folder.

        Raises:
          ValueError: the workdir holds another model, or no complete checkpoint.
        """
        workdir, step = split_step(os.fspath(workdir), step)
        config, params, number = restore_for_inference(workdir, step)
        if config.get("learner") != "muse":
            raise ValueError(
                f"{workdir} holds config.learner={config.get('learner', 'feedback')!r}; "
                "expected a run of configs/muse_scenes.py, 'muse'"
            )
        digest = identity.digest_of(workdir, number, params)
        return cls(config, params, options, digest=digest)

    def prompts(self, split: str, count: int) -> list[str]:
        """Returns the prompts of the first records of a split of the generator's task.

        Raises:
          ValueError: the split is unknown.
        """
        batches = make_eval_batches(
            self._config,
            split=split,
            targets=tuple(self._config.task.targets),
            examples=count,
        )
        return [str(info["prompt"]) for _, infos in batches for info in infos]

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Generates an image for each prompt.

        Args:
          prompts: the prompts.
          seeds: as many, in [0, 2**31): the same prompt and seed give the same image,
            whatever else is asked for.

        Returns:
          uint8[S, S, 3] images.
        """
        found: list[np.ndarray] = []
        for rows, text, drawn in self._batches(prompts, seeds):
            pixels = self._generate(self._params, text, drawn)
            found += list(_to_bytes(pixels)[: len(rows)])
        return found

    def inpaint(
        self,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        prompts: Sequence[str],
        seeds: Sequence[int],
    ) -> list[np.ndarray]:
        """Repaints a part of each image.

        Args:
          images: uint8[S, S, 3].
          masks: float32[S, S] in [0, 1]: 1 where to repaint; between, the new pixels
            are mixed with the old ones.
          prompts, seeds: see `generate`.

        Returns:
          uint8[S, S, 3] images, whose pixels where the mask is 0 are the given ones.

        Raises:
          ValueError: the numbers differ, or an image or mask has another size.
        """
        check_images_and_masks(images, masks, prompts, self.size)
        found: list[np.ndarray] = []
        for rows, text, drawn in self._batches(prompts, seeds):
            picked = [images[i] for i in rows]
            marked = [np.asarray(masks[i], np.float32) for i in rows]
            pixels = self._inpaint(
                self._params, self._padded(picked), self._padded(marked), text, drawn
            )
            new = _to_bytes(pixels)
            found += [paste(*each) for each in zip(picked, new, marked, strict=False)]
        return found

    def tokens(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns int32[G, G], the tokens of each uint8[S, S, 3] image.

        Raises:
          ValueError: an image has another size.
        """
        found: list[np.ndarray] = []
        for start in range(0, len(images), self.batch_size):
            some = images[start : start + self.batch_size]
            for index, image in enumerate(some, start):
                check_image(image, self.size, index)
            numbers = self._tokens(self._params, self._padded(some))
            found += list(np.asarray(jax.device_get(numbers))[: len(some)])
        return found

    def _batches(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Iterator[tuple[range, np.ndarray, np.ndarray]]:
        """Yields (rows, int32[B, L] text, int32[B] seeds), always of the same B."""
        check_requests(prompts, seeds)
        for start in range(0, len(prompts), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(prompts)))
            text = [self._text(prompts[i]) for i in rows]
            drawn = [np.asarray(seeds[i], np.int32) for i in rows]
            yield rows, self._padded(text), self._padded(drawn)

    def _padded(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        missing = [np.zeros_like(rows[0])] * (self.batch_size - len(rows))
        return np.stack([*rows, *missing])

    def _text(self, prompt: str) -> np.ndarray:
        """Returns int32[L], the pieces of a prompt as they were in training."""
        record = {"image": np.zeros((*self.size, 3), np.uint8), "prompt": prompt}
        names = tuple(self._config.task.targets)
        ids = self._maker.make(record, names, augment=False)["inputs"]
        text = np.zeros(self._config.input.text_length, np.int32)
        text[: len(ids)] = ids
        return text


def _keys(seeds, text):
    """Returns random keys, one an image, from int32[B] seeds and int32[B, L] prompts.

    Another prompt draws other numbers: with the seed alone, the first images of all
    prompts would share theirs, and means over prompts vary more than they seem to.
    """
    fold = lambda key, piece: (jax.random.fold_in(key, piece), None)
    one = lambda seed, row: jax.lax.scan(fold, jax.random.key(seed), row)[0]
    return jax.vmap(one)(seeds, text)


def _to_bytes(pixels) -> np.ndarray:
    """float32[B, S, S, 3] in [-1, 1] -> uint8[B, S, S, 3]."""
    found = np.asarray(jax.device_get(pixels))
    return np.rint((found + 1.0) * 127.5).astype(np.uint8)
