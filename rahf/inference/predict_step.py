"""The jitted functions of prediction: encode the image, predict the targets."""

import jax
import optax

from rahf.inference.free_decoding import FreeWords, is_free
from rahf.models import decoding, sharding
from rahf.models.rahf import RAHF, make_model
from rahf.targets import Kind, select


def make_predict_step(config, mark_ids: tuple[int, ...], targets=None):
    """Builds predict(params, batch) -> {name: array}, jitted.

    Every process must call it with the same batch, and can read the result.

    Args:
      config: the training config.
      mark_ids: the ids of the suffix that marks a word.
      targets: the names of the targets to compute; default all of the task's.

    Returns:
      The function. Heatmaps are float32[B, S, S], scores float32[B], words
      float32[B, T], the probability at each word end that the word is misaligned (0 or
      1 in free decoding, which partly runs on the host), and captions float32[B, T],
      the log-probabilities of the batch's own tokens. The batch may have
      "image_tokens" from `make_encode_image` instead of "image".
    """
    model = make_model(config)
    rows = select(config.task.targets if targets is None else targets)
    names = {kind: [row.name for row in rows if row.kind == kind] for kind in Kind}
    size = config.input.image_size
    free = is_free(config) and names[Kind.WORDS]

    @jax.jit
    def predict(params, batch):
        bound = model.bind({"params": params})
        tokens = batch.get("image_tokens")
        if tokens is None:
            tokens = bound.encode_image(batch["image"])
        encoding = bound.encode(tokens, batch["inputs"])
        outputs = {}
        if names[Kind.WORD_PRESENCE]:
            shown = bound.word_presence_logits(tokens)
            outputs |= {
                name: jax.nn.sigmoid(shown[name]) for name in names[Kind.WORD_PRESENCE]
            }
        if names[Kind.HEATMAP]:
            outputs |= bound.heatmaps(encoding, size)
        if names[Kind.SCORE]:
            outputs |= bound.scores(encoding)
        if free:
            said = decoding.greedy(
                model, {"params": params}, encoding, config.input.target_length
            )
            outputs |= dict.fromkeys(names[Kind.WORDS], said)
        elif names[Kind.WORDS]:
            marks = decoding.constrained(
                model,
                {"params": params},
                encoding,
                batch["prompt"],
                batch["word_ends"],
                mark_ids,
            )
            outputs |= dict.fromkeys(names[Kind.WORDS], marks)
        for name in names[Kind.CAPTION]:
            said = batch["targets"][name]
            logits = bound.decode(encoding, said)
            outputs[name] = -optax.softmax_cross_entropy_with_integer_labels(
                logits, said
            )
        return {row.name: outputs[row.name] for row in rows}

    def read(params, batch):
        return sharding.gather(predict(params, batch), params)

    run = predict if jax.process_count() == 1 else read
    return FreeWords(config, run, names[Kind.WORDS]) if free else run


def make_encode_image(config):
    """Builds encode(params, uint8[B, S, S, 3]) -> image tokens, jitted."""
    model = make_model(config)
    return jax.jit(
        lambda params, image: model.apply(
            {"params": params}, image, method=RAHF.encode_image
        )
    )
