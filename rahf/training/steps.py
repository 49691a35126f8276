"""The jitted functions: initialise, train, predict."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from rahf import targets as targets_lib
from rahf.inference.free_decoding import FreeWords, is_free
from rahf.models import decoding, sharding
from rahf.models.rahf import RAHF, make_model
from rahf.targets import Kind
from rahf.training import losses
from rahf.training.optimizer import make_optimizer, make_schedule


@struct.dataclass
class TrainState:
    """What a step changes and a checkpoint keeps.

    Random numbers are folded from `config.seed` and `step`, so they need no place
    here and a resumed run draws the same ones.
    """

    step: Any  # int32[]
    params: Any
    opt_state: Any


def example_batch(config, batch_size: int = 1) -> dict:
    """A batch of zeros with the shapes and dtypes that the model takes."""
    i = config.input
    text = jnp.zeros((batch_size, i.target_length), jnp.int32)
    shapes = {
        Kind.HEATMAP: jnp.zeros((batch_size, i.image_size, i.image_size)),
        Kind.SCORE: jnp.zeros((batch_size,)),
        Kind.WORDS: text,
        Kind.CAPTION: text,
        Kind.PIECES: text,
    }
    rows = targets_lib.select(config.task.targets)
    return {
        "image": jnp.zeros((batch_size, i.image_size, i.image_size, 3), jnp.uint8),
        "inputs": jnp.ones((batch_size, i.text_length), jnp.int32),
        "prompt": text,
        "word_ends": text,
        "word_labels": text,
        "targets": {row.name: shapes[row.kind] for row in rows},
        "weights": {row.name: jnp.ones((batch_size,)) for row in rows},
    }


def make_state(config, mesh, *, abstract: bool = False) -> tuple[TrainState, Any]:
    """Initialises parameters and optimizer, sharded as they are made.

    Args:
      config: the training config.
      mesh: from `sharding.make_mesh`; call inside `sharding.use`.
      abstract: return shapes only, with shardings; nothing is computed.

    Returns:
      The state, and the tree of shardings it has.
    """
    model, optimizer = make_model(config), make_optimizer(config)

    def init_params(key):
        return model.init(key, example_batch(config))["params"]

    def init(key):
        params = nn.unbox(init_params(key))
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    key = jax.eval_shape(jax.random.key, config.seed)  # the mesh may not be here
    shapes = jax.eval_shape(init, key)
    boxed = jax.eval_shape(init_params, key)
    params = sharding.params_sharding(boxed, shapes.params, mesh)
    shardings = TrainState(
        step=jax.NamedSharding(mesh, jax.P()),
        params=params,
        opt_state=sharding.optimizer_sharding(
            optimizer, shapes.opt_state, shapes.params, params, mesh
        ),
    )
    if abstract:
        return jax.tree.map(_shape_with_sharding, shapes, shardings), shardings
    make = jax.jit(init, out_shardings=shardings)
    return make(jax.random.key(config.seed)), shardings


def _shape_with_sharding(shape, placed):
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placed)


def make_train_step(config, mesh, shardings):
    """Builds step(state, batch) -> (state, metrics), jitted over the mesh.

    With `config.optimizer.accumulation` > 1 the batch is cut into that many parts
    whose gradients add up to exactly that of the whole, for less memory.

    Returns:
      The function. Its metrics are device scalars: "loss", "gradient_norm",
      "learning_rate", and by target name "loss_sum" and "weight_sum", which add up
      over steps to an exact mean.
    """
    model, optimizer = make_model(config), make_optimizer(config)
    schedule, weights = make_schedule(config), losses.loss_weights(config)
    parts = config.optimizer.accumulation

    def compute_loss(params, batch, counts, key):
        outputs = model.apply(
            {"params": params},
            batch,
            deterministic=config.model.dropout == 0,
            rngs={"dropout": key},
        )
        return losses.total(outputs, batch, weights, counts)

    gradient = jax.value_and_grad(compute_loss, has_aux=True)

    def accumulate(params, batch, counts, key):
        if parts == 1:
            return gradient(params, batch, counts, key)
        # [B, ...] -> [parts, B / parts, ...]; strided, so that each device keeps
        # examples of every part and nothing moves between devices.
        split = jax.tree.map(
            lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch
        )

        def add(total, part):
            index, part = part
            value = gradient(params, part, counts, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, total, value), None

        first = jax.tree.map(lambda x: x[0], split)
        shapes = jax.eval_shape(gradient, params, first, counts, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(add, zeros, (jnp.arange(parts), split))[0]

    def step(state: TrainState, batch):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        counts = {name: batch["weights"][name].sum() for name in weights}
        (loss, sums), gradients = accumulate(state.params, batch, counts, key)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step)),
            "loss_sum": sums,
            "weight_sum": counts,
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, None),
    )


def make_predict_step(config, mark_ids: tuple[int, ...], targets=None):
    """Builds predict(params, batch) -> {name: array}, jitted.

    Every process is to call it with the same batch, and can read the result.

    Args:
      config: the training config.
      mark_ids: the vocabulary's pieces of the suffix that marks a word.
      targets: the names wanted; default all of the task's. What is not wanted is
        not computed.

    Returns:
      The function. Heatmaps are float32[B, S, S], scores float32[B], words
      float32[B, T] probabilities at word ends that the word is misaligned (0 or 1
      where the decoder is free: then part of the work is the host's), and
      captions float32[B, T] log-probabilities of the batch's own tokens. The batch
      may bring "image_tokens" from `make_encode_image` in place of "image".
    """
    model = make_model(config)
    rows = targets_lib.select(config.task.targets if targets is None else targets)
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
        if names[Kind.PIECES]:
            shown = bound.shown_pieces(tokens)
            outputs |= {
                name: jax.nn.sigmoid(shown[name]) for name in names[Kind.PIECES]
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
            logits = bound.say(encoding, said)
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
