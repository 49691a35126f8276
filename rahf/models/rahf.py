"""RAHF: predicts every kind of feedback from an image and its prompt.

Section 4 of "Rich Human Feedback for Text-to-Image Generation" (CVPR 2024): a ViT
encodes the image; T5's encoder reads [image tokens ; prompt tokens] with full
self-attention; heads predict heatmaps and scores from the encoded image tokens, and
T5's decoder generates the prompt with its misaligned words marked.

Two variants. `multihead`: one head per target on one encoding of the plain prompt.
`augmented`: one head per kind; the prompt names the target, so the encoding adapts to
it. And one that baselines are: `image`, one head per target on the image alone, without
T5.

Shapes: B batch, S image side, N image tokens, G grid side, L text length,
T decoder length, D embed, V vocabulary.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models.heads import HEATMAP_HEADS, SCORE_HEADS, HeadConfig
from rahf.models.partitioning import constrain, named
from rahf.models.prompt_match import PromptMatch
from rahf.models.remat import POLICIES
from rahf.models.t5 import T5
from rahf.models.t5_layers import T5Config
from rahf.models.vit import ViT, ViTConfig
from rahf.models.word_presence import WordPresence
from rahf.targets import Kind, get, select

VARIANTS = ("augmented", "multihead", "image")
DTYPES = ("float32", "bfloat16")
TEXT_KINDS = (Kind.WORDS, Kind.CAPTION)


@dataclasses.dataclass(frozen=True)
class RAHFConfig:
    """Hyperparameters of the whole model.

    Attributes:
      vit, t5, heatmap_head, score_head: hyperparameters of the parts.
      variant: "augmented", "multihead" or "image".
      targets: names of the batch's targets, each a row of `rahf.targets`.
      decoder_attends: "all" of the encoder's output, as in PaLI, or the "prompt"
        positions only, as in the first author's release.
      word_presence: whether to add to each piece of the prompt how much the image
        shows it, see `rahf.models.word_presence`.
      prompted: scores with a linear head that also read the prompt in the variant
        "image", see `rahf.models.prompt_match`.
    """

    vit: ViTConfig
    t5: T5Config
    heatmap_head: HeadConfig
    score_head: HeadConfig
    variant: str
    targets: tuple[str, ...]
    decoder_attends: str = "all"
    word_presence: bool = False
    prompted: tuple[str, ...] = ()

    def __post_init__(self):
        _check_choice("variant", self.variant, VARIANTS)
        _check_choice("decoder_attends", self.decoder_attends, ("all", "prompt"))
        _check_choice("heatmap_head.name", self.heatmap_head.name, HEATMAP_HEADS)
        _check_choice("score_head.name", self.score_head.name, SCORE_HEADS)
        if self.variant == "image":
            kinds = (Kind.HEATMAP, Kind.SCORE, Kind.PREFERENCE)
            wrong = [x.name for x in select(self.targets) if x.kind not in kinds]
            if wrong or self.word_presence:
                what = ", ".join(wrong) or "config.model.word_presence"
                raise ValueError(
                    f"config.model.variant='image' reads no prompt, so it has no {what}; "
                    "it predicts heatmaps and scores (config.task.targets)"
                )
        if self.prompted and (self.variant, self.score_head.name) != (
            "image",
            "linear",
        ):
            raise ValueError(
                f"config.model.prompted={self.prompted} is of the variant 'image' with "
                f"linear heads; config.model.variant={self.variant!r}, "
                f"score_head.name={self.score_head.name!r}"
            )
        for row in select(self.targets, Kind.PREFERENCE):
            if row.compares not in self.targets:
                raise ValueError(
                    f"config.task.targets has {row.name!r}, from which the score "
                    f"{row.compares!r} learns; add that too"
                )
        names = self.names(Kind.WORD_PRESENCE)  # also refuses unknown names
        if names and not self.word_presence:
            raise ValueError(
                f"config.task.targets has {', '.join(names)}, which needs "
                "config.model.word_presence=True"
            )

    @property
    def has_projection(self) -> bool:
        """Whether image tokens are brought to T5's width; heads can read any."""
        return self.variant != "image" or self.vit.stem_output != "features"

    def names(self, *kinds: Kind) -> list[str]:
        """Returns the names of the targets of some kinds."""
        rows = select(self.targets)
        return [row.name for row in rows if row.kind in kinds]

    def head_of(self, name: str) -> str:
        """Returns the head that predicts a target: its own, or its kind's."""
        return get(name).kind.value if self.variant == "augmented" else name


def _check_choice(path: str, value: str, options):
    if value not in options:
        raise ValueError(
            f"config.model.{path}={value!r}; known: {', '.join(map(repr, options))}"
        )


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The input of the heads and the decoder.

    Attributes:
      feature_map: dtype[B, G, G, D], the image tokens on their grid.
      memory: dtype[B, M, D], what the decoder attends to.
      memory_mask: bool[B, M], False at padding.
    """

    feature_map: jax.Array
    memory: jax.Array
    memory_mask: jax.Array

    def take(self, rows) -> "Encoding":
        """Returns the encodings of some rows of the batch, int32[R]."""
        return Encoding(
            self.feature_map[rows], self.memory[rows], self.memory_mask[rows]
        )


class RAHF(nn.Module):
    """The model; training uses `__call__`, and the other methods are its stages."""

    config: RAHFConfig

    def setup(self):
        c = self.config
        self.vit = ViT(c.vit)
        if c.has_projection:
            self.visual_token_projection = nn.Dense(
                c.t5.embed_dim,
                dtype=c.t5.dtype,
                kernel_init=named(nn.initializers.lecun_normal(), None, "embed"),
            )
        if c.variant != "image":
            self.t5 = T5(c.t5)
        if c.word_presence:
            # The saved name stays that of the first checkpoints, so that they load.
            self.presence = WordPresence(
                c.t5.vocab_size, c.t5.embed_dim, name="word_evidence"
            )
        self.matched = [x for x in c.names(Kind.SCORE) if x in c.prompted]
        if self.matched:
            self.prompt_match = PromptMatch(c.t5.vocab_size)
        heads = lambda table, head, kind: {
            key: table[head.name](head)
            for key in dict.fromkeys(c.head_of(name) for name in c.names(kind))
        }
        self.heatmap_predictor = heads(HEATMAP_HEADS, c.heatmap_head, Kind.HEATMAP)
        self.score_predictor = heads(SCORE_HEADS, c.score_head, Kind.SCORE)

    def encode_image(self, images, *, deterministic: bool = True):
        """uint8[B, S, S, 3] -> dtype[B, N, D] tokens for `encode`.

        They do not depend on the prompt, so predicting seven targets with augmented
        prompts needs them only once.
        """
        c = self.config
        images = images.astype(jnp.float32) / 127.5 - 1.0
        tokens = self.vit(images, deterministic=deterministic)
        return self.visual_token_projection(tokens) if c.has_projection else tokens

    def encode(self, image_tokens, inputs, *, deterministic: bool = True) -> Encoding:
        """dtype[B, N, D] image tokens and int32[B, L] prompt ids -> `Encoding`."""
        c = self.config
        if c.variant == "image":
            memory = image_tokens
            if self.matched:
                memory = self.prompt_match.read(inputs)[:, None]
            mask = jnp.ones(memory.shape[:2], bool)
            return Encoding(self._feature_map(image_tokens), memory, mask)
        text = self.t5.embed(inputs)
        if c.word_presence:
            text = self.presence(self._patches(image_tokens), text)
        x = jnp.concatenate([image_tokens, text], axis=1)
        length = image_tokens.shape[1]
        mask = jnp.pad(inputs != 0, ((0, 0), (length, 0)), constant_values=True)
        x = constrain(x, "batch", "length", "embed")
        x = self.t5.encode(x, mask, deterministic=deterministic)
        feature_map = self._feature_map(x[:, :length])
        if c.decoder_attends == "prompt":
            x, mask = x[:, length:], mask[:, length:]
        return Encoding(feature_map, memory=x, memory_mask=mask)

    def _patches(self, image_tokens):
        return image_tokens[:, int(self.config.vit.class_token) :]

    def _feature_map(self, image_tokens):
        patches = self._patches(image_tokens)
        side = round(patches.shape[1] ** 0.5)
        return patches.reshape(patches.shape[0], side, side, -1)

    def word_presence_logits(self, image_tokens) -> dict[str, jax.Array]:
        """Every word-presence target: float32[B, V] logits that the image shows a
        piece."""
        names = self.config.names(Kind.WORD_PRESENCE)
        if not names:
            return {}
        table = self.t5.token_embedder.embedding
        patches = self._patches(image_tokens)
        return {name: self.presence.shown(patches, table) for name in names}

    def heatmaps(self, encoding: Encoding, size: int) -> dict[str, jax.Array]:
        """Every heatmap target: float32[B, size, size] in [0, 1]."""
        apply = lambda head: head(encoding.feature_map, size)
        return self._by_target(Kind.HEATMAP, self.heatmap_predictor, apply)

    def scores(
        self, encoding: Encoding, *, deterministic: bool = True
    ) -> dict[str, jax.Array]:
        """Every score target, and for every preference the score that it compares:
        float32[B] in [0, 1]."""
        x = encoding.feature_map
        apply = lambda head: head(x, deterministic=deterministic)
        outputs = self._by_target(Kind.SCORE, self.score_predictor, apply)
        if self.matched:
            text = encoding.memory[:, 0]
            match = self.prompt_match(x, text, deterministic=deterministic)
            for name in self.matched:
                head = self.score_predictor[name]
                outputs[name] = head(x, match, deterministic=deterministic)
        compared = select(self.config.targets, Kind.PREFERENCE)
        return outputs | {row.name: outputs[row.compares] for row in compared}

    def _by_target(self, kind, heads, apply):
        outputs = {key: apply(head) for key, head in heads.items()}
        names = self.config.names(kind)
        return {name: outputs[self.config.head_of(name)] for name in names}

    def decode(self, encoding: Encoding, tokens, *, deterministic: bool = True):
        """int32[B, T] tokens -> float32[B, T, V] logits, teacher-forced."""
        return self.t5.decode(
            tokens, encoding.memory, encoding.memory_mask, deterministic=deterministic
        )

    def decode_start(self, encoding: Encoding, length: int):
        """Returns the decoding cache for the first `decode_step`."""
        return self.t5.decode_start(encoding.memory, length)

    def decode_step(self, tokens, cache, index, memory_mask):
        """int32[B, W] tokens from int32[B] positions on -> float32[B, W, V] logits of
        those that follow, and the new cache; see `T5.decode_step`."""
        return self.t5.decode_step(tokens, cache, index, memory_mask)

    def __call__(self, batch: dict[str, Any], *, deterministic: bool = True):
        """Computes everything the losses need, by target name.

        Args:
          batch: model features, see rahf.input.converter.
          deterministic: whether to disable dropout.

        Returns:
          {name: float32[B, S, S] heatmap | float32[B] score | float32[B, T, V]
          logits of the words or caption | float32[B, V] logits of pieces}, heatmaps
          and scores in [0, 1]. `batch["weights"]`, not this, says which of them an
          example was asked for.
        """
        c = self.config
        tokens = self.encode_image(batch["image"], deterministic=deterministic)
        encoding = self.encode(tokens, batch["inputs"], deterministic=deterministic)
        outputs = self.heatmaps(encoding, batch["image"].shape[1])
        outputs |= self.scores(encoding, deterministic=deterministic)
        outputs |= self.word_presence_logits(tokens)
        names = c.names(*TEXT_KINDS, Kind.SOFT_WORDS)
        if names:  # an example has at most one text to generate
            text = sum(
                jnp.where(batch["weights"][name][:, None] > 0, _text(batch, name), 0)
                for name in names
            )
            logits = self.decode(encoding, text, deterministic=deterministic)
            outputs |= dict.fromkeys(names, logits)
        return outputs


def _text(batch: dict[str, Any], name: str):
    """Returns int32[B, T], the text by which the decoder is taught a target."""
    label = batch["targets"][name]
    soft = get(name).kind is Kind.SOFT_WORDS
    return label[..., 0].astype(jnp.int32) if soft else label


def make_model(config, *, training: bool = False) -> RAHF:
    """Builds the model that a training config describes.

    Args:
      config: `ml_collections.ConfigDict` with `task.targets`, `input.image_size`
        and `model` (see configs/).
      training: whether for the train step, the only one to heed
        `config.model.scan_layers`: a scan copies the layers' parameters whenever it is
        run, which a step on a whole batch does not feel, but a prediction may.

    Returns:
      The module, unbound; its parameters are the same in either case.

    Raises:
      ValueError: a value of the config is not among the options.
    """
    m = config.model
    _check_choice("dtype", m.dtype, DTYPES)
    dtype = jnp.dtype(m.dtype)
    policy = m.get("remat_policy", "full")
    _check_choice("remat_policy", policy, POLICIES)
    shared = {
        "dtype": dtype,
        "dropout": m.dropout,
        "remat": m.remat and policy,
        "scan_layers": training and m.get("scan_layers", False),
    }
    vit = ViTConfig.from_name(image_size=config.input.image_size, **shared, **m.vit)
    return RAHF(
        RAHFConfig(
            vit=vit,
            t5=T5Config.from_name(**shared, **m.t5),
            heatmap_head=HeadConfig(dtype=dtype, **m.heatmap_head),
            score_head=HeadConfig(dtype=dtype, dropout=m.dropout, **m.score_head),
            variant=m.variant,
            targets=tuple(config.task.targets),
            decoder_attends=m.decoder_attends,
            word_presence=m.get("word_presence", False),
            prompted=tuple(m.get("prompted", ())),
        )
    )
