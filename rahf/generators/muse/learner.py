"""What the training loop learns for Muse: its tokenizer, then its transformer.

Importing this module registers both, "muse_tokenizer" and "muse". The pictures and
prompts are those of the config's task, whose labels are not looked at.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rahf.generators.muse.masking import training_masks
from rahf.generators.muse.model import Muse, MuseConfig
from rahf.generators.pictures import LOSS_WEIGHTS
from rahf.input.loader import make_eval_batches
from rahf.models import learners

#: The progress of sampling at which masked tokens are measured: all, half of the steps
#: done, and the last ones.
_MEASURED_AT = (0.0, 0.5, 0.8)


def to_float(images):
    """uint8[B, S, S, 3] -> float32[B, S, S, 3] in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def token_weights(batch, grid: int):
    """Returns the weights of the tokens' losses, float32[B, G, G] with a mean of 1 for
    each image: the means of its `loss_weights` in each token, 1 where it has none."""
    name = LOSS_WEIGHTS.name
    if name not in batch["targets"]:
        return jnp.ones((1, 1, 1))
    maps, given = batch["targets"][name], batch["weights"][name][:, None, None]
    stride = maps.shape[1] // grid
    cells = maps.reshape(len(maps), grid, stride, grid, stride).mean(axis=(2, 4))
    mean = cells.mean(axis=(1, 2), keepdims=True)
    weighs = (given > 0) & (mean > 1e-6)
    return jnp.where(weighs, cells / jnp.where(weighs, mean, 1.0), 1.0)


@dataclasses.dataclass(frozen=True)
class _MuseLearner:
    """What both have in common; see `rahf.models.learners.Learner`."""

    config: Any
    model: Muse
    what: ClassVar[str]

    def _apply(self, params, *args, method: str, **options) -> Any:
        return self.model.apply({"params": params}, *args, method=method, **options)

    @classmethod
    def from_config(cls, config):
        """Returns the learner of a training config."""
        return cls(config, Muse(MuseConfig.from_config(config, training=True)))

    def counts(self, batch):
        """Returns the number of images."""
        return {self.what: jnp.float32(len(batch["image"]))}

    def pretrained(self, params):
        """Returns the parameters: nothing is pretrained."""
        return params

    def _examples(self):
        """Returns an image and a prompt to initialise with."""
        i = self.config.input
        images = jnp.zeros((1, i.image_size, i.image_size, 3))
        return images, jnp.ones((1, i.text_length), jnp.int32)

    def _measure(self, measure):
        """Returns evaluate(params), the means of what `measure` finds in batches."""
        eval_config = self.config.eval

        def evaluate(params):
            total, count = {}, 0
            batches = make_eval_batches(
                self.config,
                split=eval_config.split,
                targets=tuple(self.config.task.targets),
                batch_size=eval_config.batch_size,
                examples=eval_config.examples,
            )
            for number, (batch, infos) in enumerate(batches):
                used = {k: batch[k] for k in ("image", "inputs")}
                used["valid"] = np.arange(len(batch["image"])) < len(infos)
                for name, value in jax.device_get(
                    measure(params, used, number)
                ).items():
                    total[name] = total.get(name, 0.0) + value
                count += len(infos)
            return self._finish(total, count)

        return evaluate

    def _finish(self, total, count: int) -> dict[str, float]:
        return {f"{self.what}/{k}": float(v / count) for k, v in total.items()}


class TokenizerLearner(_MuseLearner):
    """The tokenizer alone, by the absolute difference of pixels."""

    what = "image"

    def init(self, key):
        """Returns new parameters."""
        images, _ = self._examples()
        method = lambda model, images: model.reconstruct(images)
        return self.model.init(key, images, method=method)["params"]

    def loss(self, params, batch, counts, key):
        """Returns the mean absolute difference of pixels in [-1, 1]."""
        del key
        images = to_float(batch["image"])
        found = self._reconstruct(params, images)
        total = jnp.abs(found - images).mean(axis=(1, 2, 3)).sum()
        return total / counts[self.what], {self.what: total}

    def _reconstruct(self, params, images):
        return self._apply(params, images, method="reconstruct")

    def rate(self, name: str) -> float:
        """Returns 1: all parameters learn."""
        del name
        return 1.0

    def evaluator(self):
        """Returns what measures "image/psnr", in dB, the mean over images, and
        "image/codes_used", the entries of the codebook in use (2 to the entropy)."""
        codes = self.model.config.tokenizer.codes

        @jax.jit
        def measure(params, batch, number):
            del number
            images = to_float(batch["image"])
            found = jnp.clip(self._reconstruct(params, images), -1.0, 1.0)
            # A peak of 2, since pixels are in [-1, 1].
            error = jnp.maximum(jnp.square(found - images).mean(axis=(1, 2, 3)), 1e-10)
            psnr = 10.0 * jnp.log10(4.0 / error)
            tokens = self._apply(params, images, method="tokens")
            weight = jnp.broadcast_to(batch["valid"][:, None, None], tokens.shape)
            return {
                "psnr": (psnr * batch["valid"]).sum(),
                "histogram": jnp.zeros(codes).at[tokens].add(weight),
            }

        return self._measure(measure)

    def _finish(self, total, count: int) -> dict[str, float]:
        histogram = total.pop("histogram")
        share = histogram / histogram.sum()
        entropy = -(share * np.log2(np.maximum(share, 1e-12))).sum()
        return super()._finish(total, count) | {"image/codes_used": float(2.0**entropy)}


class TransformerLearner(_MuseLearner):
    """The transformer, by the cross-entropy of masked tokens; the tokenizer is frozen."""

    what = "tokens"

    def init(self, key):
        """Returns new parameters, those of the tokenizer too."""
        return self.model.init(key, *self._examples())["params"]

    def loss(self, params, batch, counts, key):
        """Returns the mean cross-entropy of masked tokens, in nats, weighted where the
        batch has weights (`token_weights`)."""
        m, codes = self.config.model, self.model.config.tokenizer.codes
        tokens = self._tokens(params, batch)
        masking, dropping, spoiling, drawing, dropout = jax.random.split(key, 5)
        size, grid = len(tokens), tokens.shape[1]
        masked = training_masks(masking, size, grid, m.rectangles)
        # Tokens of another place in the batch: sampling must survive its own mistakes.
        wrong = jax.random.bernoulli(spoiling, m.wrong_tokens, tokens.shape)
        others = jax.random.permutation(drawing, tokens.reshape(-1))
        given = jnp.where(wrong, others.reshape(tokens.shape), tokens)
        given = jnp.where(masked, codes, given)
        keeps = jax.random.bernoulli(dropping, 1.0 - m.prompt_dropout, (size, 1))
        logits = self._apply(
            params,
            given,
            batch["inputs"] * keeps,
            deterministic=m.dropout == 0,
            method="logits",
            rngs={"dropout": dropout},
        )
        losses = _cross_entropy(logits, tokens, m.label_smoothing) * masked
        losses *= token_weights(batch, grid)
        total = (losses.sum(axis=(1, 2)) / masked.sum(axis=(1, 2))).sum()
        return total / counts[self.what], {self.what: total}

    def _tokens(self, params, batch):
        images = to_float(batch["image"])
        tokens = self._apply(params, images, method="tokens")
        return jax.lax.stop_gradient(tokens)

    def rate(self, name: str) -> float:
        """Returns 0 for the tokenizer, 1 for all else."""
        return 0.0 if name.startswith("tokenizer/") else 1.0

    def evaluator(self):
        """Returns what measures "tokens/nll_80", in nats: the cross-entropy of masked
        tokens when 80 % of the steps of sampling are done; likewise _0, when all are
        masked, and _50. "tokens/nll_0_unprompted" is without the prompt, which tells
        most at the start: later, the visible tokens show what it says."""
        codes = self.model.config.tokenizer.codes

        def one(params, tokens, text, progress, key):
            noise = jax.random.uniform(key, tokens.shape)
            masked = noise < jnp.cos(0.5 * jnp.pi * progress)
            given = jnp.where(masked, codes, tokens)
            logits = self._apply(params, given, text, method="logits")
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
            masked = masked.astype(jnp.float32)
            return (losses * masked).sum((1, 2)) / jnp.maximum(masked.sum((1, 2)), 1.0)

        @jax.jit
        def measure(params, batch, number):
            tokens, valid = self._tokens(params, batch), batch["valid"]
            key = jax.random.fold_in(jax.random.key(0), number)
            find = functools.partial(one, params, tokens)
            text = batch["inputs"]
            found = {f"nll_{int(100 * p)}": find(text, p, key) for p in _MEASURED_AT}
            found["nll_0_unprompted"] = find(jnp.zeros_like(text), 0.0, key)
            return {name: (value * valid).sum() for name, value in found.items()}

        return self._measure(measure)


def _cross_entropy(logits, tokens, smoothing: float):
    """float32[B, G, G, C] and int32[B, G, G] -> float32[B, G, G], in nats.

    With smoothing s, a share s of what is wanted is spread over all codes, as
    `optax.smooth_labels` does, but without an array of one-hot vectors.
    """
    log = jax.nn.log_softmax(logits)
    wanted = jnp.take_along_axis(log, tokens[..., None], axis=-1)[..., 0]
    if smoothing:
        wanted = (1.0 - smoothing) * wanted + smoothing * log.mean(axis=-1)
    return -wanted


learners.register("muse_tokenizer", TokenizerLearner.from_config)
learners.register("muse", TransformerLearner.from_config)
