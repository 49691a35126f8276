"""The jitted functions of prediction."""

import copy
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from rahf.baselines.clip_runs import make_clip_predict_step
from rahf.inference.free_decoding import FreeWords, is_free
from rahf.inference.stages import Stages
from rahf.models import decoding, image_features, learners, passes, sharding
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
      "image_tokens" from `RAHF.encode_image` instead of "image".
    """
    names = config.task.targets if targets is None else targets
    if config.get("learner") == "clip":
        return make_clip_predict_step(config, names)
    learners.check_feedback(config)
    model = make_model(config)
    rows = select(names)
    names = _by_kind(rows)
    read = _make_read(model, config, mark_ids, names)

    @jax.jit
    def predict(params, batch):
        bound, stages = model.bind({"params": params}), Stages(model, params)
        tokens = batch.get("image_tokens")
        if tokens is None:
            tokens = stages.encode_image(batch["image"])
        encoding = stages.encode(tokens, batch["inputs"])
        outputs = read(params, encoding, batch)
        if names[Kind.WORD_PRESENCE]:
            shown = bound.word_presence_logits(tokens)
            outputs |= {
                name: jax.nn.sigmoid(shown[name]) for name in names[Kind.WORD_PRESENCE]
            }
        for name in names[Kind.CAPTION]:
            said = batch["targets"][name]
            logits = bound.decode(encoding, said)
            outputs[name] = -optax.softmax_cross_entropy_with_integer_labels(
                logits, said
            )
        return {row.name: outputs[row.name] for row in rows}

    return _on_host(config, predict, names)


#: The output of `make_predict_prompts` with the features of the images.
FEATURES = "image_features"


def make_predict_prompts(
    config,
    mark_ids: tuple[int, ...],
    targets: Sequence[str],
    *,
    features: bool = False,
):
    """Builds predict(params, batch) -> {name: array}, jitted, for all targets at once.

    Where each target has a prompt of its own (the augmented variant), they are read in
    one pass over one encoding of the image.

    Args:
      config: the training config.
      mark_ids: the ids of the suffix that marks a word.
      targets: the names of the targets: heatmaps, scores and words.
      features: whether to return `FEATURES` too, float32[B, F]
        (`rahf.models.image_features`).

    Returns:
      The function. Of the batch it takes `image` uint8[B, S, S, 3], `prompt` and
      `word_ends` int32[B, T], and `inputs` int32[P, B, L]: the prompts by which
      `rahf.models.passes.targets_of_prompts` asks for the targets, in its order. It
      returns what `make_predict_step` does.
    """
    model = make_model(config)
    names = _by_kind(select(targets))
    asked = passes.targets_of_prompts(config, targets)
    parts = [
        (
            [place for place, group in enumerate(asked) if group[0] in program],
            _make_read(model, config, mark_ids, _by_kind(select(program))),
        )
        for program in passes.targets_of_programs(config, targets)
    ]

    @jax.jit
    def predict(params, batch):
        stages = Stages(model, params)
        count, rows, length = batch["inputs"].shape
        tokens = stages.encode_image(batch["image"])
        outputs = {}
        if features:
            outputs[FEATURES] = image_features.pool(model, tokens)
        tokens = jnp.tile(tokens, (count, 1, 1))
        encoding = stages.encode(tokens, batch["inputs"].reshape(-1, length))
        for places, read in parts:
            own = jnp.concatenate([jnp.arange(rows) + rows * at for at in places])
            text = {
                key: jnp.tile(batch[key], (len(places), 1))
                for key in ("prompt", "word_ends")
            }
            found = read(params, encoding.take(own), text)
            for index, place in enumerate(places):
                part = slice(rows * index, rows * (index + 1))
                outputs |= {name: found[name][part] for name in asked[place]}
        return outputs

    return _on_host(config, predict, names)


def _by_kind(rows) -> dict[Kind, list[str]]:
    return {kind: [row.name for row in rows if row.kind == kind] for kind in Kind}


def _make_read(model: RAHF, config, mark_ids: tuple[int, ...], names):
    """Builds read(params, encoding, batch) -> {name: array}, of heatmaps, scores and
    words."""
    free = is_free(config)

    def read(params, encoding, batch):
        stages = Stages(model, params)
        outputs = {}
        if names[Kind.HEATMAP]:
            outputs |= stages.heatmaps(encoding, config.input.image_size)
        if names[Kind.SCORE] or names[Kind.PREFERENCE]:
            outputs |= stages.scores(encoding)
        if names[Kind.WORDS]:
            if free:
                said = decoding.greedy(
                    model,
                    {"params": params},
                    encoding,
                    config.input.target_length,
                    batch["prompt"],
                    mark_ids,
                )
            else:
                said = decoding.constrained(
                    model,
                    {"params": params},
                    encoding,
                    batch["prompt"],
                    batch["word_ends"],
                    mark_ids,
                )
            outputs |= dict.fromkeys(names[Kind.WORDS], said)
        return outputs

    return read


def _on_host(config, predict, names):
    """Adds what of a prediction runs on the host."""

    def gather(params, batch):
        return sharding.gather(predict(params, batch), params)

    run = predict if jax.process_count() == 1 else gather
    words = names[Kind.WORDS]
    return FreeWords(config, run, words) if words and is_free(config) else run


def compute_config(config):
    """Returns the config that prediction computes by.

    On CPUs a model trained in bfloat16 computes in float32, which is faster there: one
    image with ViT-B/16 and T5-base took 1.65 CPU-seconds in float32 and 2.26 in
    bfloat16 on an AMD EPYC that has bfloat16 units (AVX512-BF16), and without them
    bfloat16 is emulated.
    """
    if jax.default_backend() != "cpu" or config.model.dtype == "float32":
        return config
    config = copy.deepcopy(config)
    with config.unlocked():
        config.model.dtype = "float32"
    return config


def cast_params(params, dtype):
    """Casts to the compute dtype, once, the parameters that each use would cast.

    Those are the kernels, nearly all of the parameters, except that of T5 1.1's output
    layer. Tables, norms and biases stay float32, so that results do not change.

    Args:
      params: {"t5": {...}, ...} of float32.
      dtype: the compute dtype, or its name.
    """
    dtype = jnp.dtype(dtype)

    def cast(path, leaf):
        names = [entry.key for entry in path]
        casts = names[-1] == "kernel" and "logits_dense" not in names
        return leaf.astype(dtype) if casts else leaf

    return jax.tree_util.tree_map_with_path(cast, params)
