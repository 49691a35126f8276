"""The predict function as a serialised program that needs JAX but not rahf.

Its arguments are the parameters, flat as in `model.safetensors`, and a batch of fixed
size. Both variants of the model take plain prompts: the program itself adds the prefix
that asks an augmented model for a target.

Letters: B batch, S image side, L text length, T target length.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import export

from rahf import targets
from rahf.inference.predict_step import make_predict_prompts
from rahf.inference.predictor import Predictor
from rahf.input import vocabulary
from rahf.input.vocabulary import EOS_ID, PAD_ID
from rahf.models import passes
from rahf.weights import matching

PROGRAM_FILE = "program.stablehlo"
#: The default platforms of a program: one file serves all three.
PLATFORMS = ("cpu", "cuda", "tpu")


def example_inputs(config, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of the program's batch."""
    i, shape = config.input, jax.ShapeDtypeStruct
    text = shape((batch_size, i.target_length), jnp.int32)
    return {
        "image": shape((batch_size, i.image_size, i.image_size, 3), jnp.uint8),
        "inputs": shape((batch_size, i.text_length), jnp.int32),
        "prompt": text,
        "word_ends": text,
    }


def add_prefix(prefix: Sequence[int], inputs):
    """Adds ids before prompts, as `rahf.input.features.FeatureMaker` does.

    Args:
      prefix: the ids of the text that asks for a target.
      inputs: int32[B, L], plain prompts, each with its end of sequence.

    Returns:
      int32[B, L], cut to fit, with the end of sequence kept.
    """
    batch, length = inputs.shape
    before = jnp.broadcast_to(jnp.asarray(prefix, jnp.int32), (batch, len(prefix)))
    joined = jnp.concatenate([before, inputs], axis=1)[:, :length]
    full = joined[:, -1] != PAD_ID
    return joined.at[:, -1].set(jnp.where(full, EOS_ID, PAD_ID))


def make_function(predictor: Predictor):
    """Builds predict(params, batch) -> {target: array}.

    Args:
      predictor: the predictor whose config and targets to use.

    Returns:
      The function of flat parameters and of arrays shaped like `example_inputs`.
      Heatmaps are float32[B, S, S], scores float32[B], words float32[B, T].

    Raises:
      ValueError: part of the prediction runs on the host (free decoding).
    """
    config = predictor.config
    decoding = config.model.get("decoding", "constrained")
    if decoding != "constrained":
        raise ValueError(
            f"config.model.decoding={decoding!r}: a free decoder's output is matched "
            f"to the prompt as text, which a program cannot do; use "
            f"--format=safetensors"
        )
    words = vocabulary.load(config.input.vocabulary)
    augmented = passes.is_augmented(config)
    prefixes = [
        words.encode(targets.get(names[0]).prompt) if augmented else []
        for names in passes.targets_of_prompts(config, predictor.targets)
    ]
    step = make_predict_prompts(config, words.mark_ids, predictor.targets)

    def predict(params, batch):
        params = traverse_util.unflatten_dict(params, sep="/")
        inputs = [add_prefix(prefix, batch["inputs"]) for prefix in prefixes]
        outputs = step(params, batch | {"inputs": jnp.stack(inputs)})
        return {name: outputs[name] for name in predictor.targets}

    return predict


def serialize(
    predictor: Predictor,
    params,
    *,
    batch_size: int,
    platforms: Sequence[str] = PLATFORMS,
) -> bytes:
    """Lowers the predict function to StableHLO.

    Args:
      predictor: the predictor whose config and targets to use.
      params: the predictor's parameters; only their shapes are read.
      batch_size: B, fixed in the program.
      platforms: the platforms to run on, as JAX names them.

    Returns:
      The program, for `jax.export.deserialize`.

    Raises:
      ValueError: the batch size is below 1, or a platform is unknown.
    """
    if batch_size < 1:
        raise ValueError(f"expected --batch_size of at least 1, got {batch_size}")
    unknown = set(platforms) - {"cpu", "cuda", "rocm", "tpu"}
    if unknown or not platforms:
        raise ValueError(
            f"--platforms={','.join(platforms)}; expected some of cpu, cuda, rocm, tpu"
        )
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), matching.flatten(params)
    )
    function = jax.jit(make_function(predictor))
    program = export.export(function, platforms=list(platforms))(
        shapes, example_inputs(predictor.config, batch_size)
    )
    return bytes(program.serialize())
