"""A stack of equal layers as one loop, which compiles in a time independent of depth.

Parameters are stored layer by layer, whether their stack is scanned or not: names,
initialisation and checkpoints are the same, and a run may change over at any step. Between
steps the training loop holds them joined (`rahf.training.stacks`); a loop over parameters
that are not reads joined copies of them.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rahf.models import sharding
from rahf.models.remat import policy_of
from rahf.models.t5_layers import INTERMEDIATES


def is_scanned(stack) -> bool:
    """Returns whether to scan a stack now: its config says so, and its layers need not
    be called by name to make their parameters or show their intermediates."""
    shows = stack.is_mutable_collection(INTERMEDIATES)
    return stack.config.scan_layers and not (stack.is_initializing() or shows)


def scan_layers(stack, layer, names, x, *shared, deterministic: bool):
    """Applies the layers of a stack one after another, tracing one of them.

    Every layer draws random numbers of its own, though others than without the scan.

    Args:
      stack: the bound module whose parameters hold those of the layers.
      layer: an unbound layer, called with (x, *shared, deterministic). Of its config,
        `dtype` is what it computes matrices in, and with `remat` it is recomputed in
        the backward pass.
      names: the names of the layers in the stack, first to last.
      x: dtype[...], the input of the first layer.
      *shared: what every layer gets beside x.
      deterministic: whether to disable dropout.

    Returns:
      dtype[...], the output of the last layer.
    """
    parts = [nn.unbox(stack.variables["params"][name]) for name in names]
    params = _shard(_join(parts, layer.config.dtype), layer, x, *shared)
    keys = None
    if not deterministic and stack.has_rng("dropout"):
        keys = jax.random.split(stack.make_rng("dropout"), len(names))

    def apply(x, each):
        params, key = each
        rngs = {} if key is None else {"dropout": key}
        x = layer.apply({"params": params}, x, *shared, deterministic, rngs=rngs)
        return x, None

    if layer.config.remat:
        # The loop itself keeps XLA from undoing it, as prevent_cse would.
        policy = policy_of(layer.config.remat)
        apply = jax.checkpoint(apply, prevent_cse=False, policy=policy)
    return jax.lax.scan(apply, x, (params, keys))[0]


def _join(parts, dtype):
    """Joins the layers' parameters: [...] of each -> [layers, ...].

    Layers cast matrices to their compute dtype themselves. Casting them before halves
    the copy in bfloat16. Norms are computed in float32, and stay so. Of slices of a
    joined array the compiler makes that array again, if they are joined as they are.
    """

    def join(*leaves):
        joined = jnp.stack(leaves)
        return joined.astype(dtype) if joined.ndim > 2 else joined

    return jax.tree.map(join, *parts)


def _shard(params, layer, x, *shared):
    """Shards joined parameters as their parts are; does nothing outside a mesh.

    Otherwise XLA might gather the parameters of all layers at once.
    """
    mesh: Any = jax.sharding.get_abstract_mesh()  # serves where flax names Mesh
    if mesh.empty or not nn.get_logical_axis_rules():
        return params

    def init(x, *shared):
        return layer.init(jax.random.key(0), x, *shared, True)["params"]

    boxed = jax.eval_shape(init, x, *shared)
    parts = sharding.params_sharding(boxed, nn.unbox(boxed), mesh)
    return jax.tree.map(
        lambda leaf, part: jax.lax.with_sharding_constraint(
            leaf, jax.P(None, *part.spec)
        ),
        params,
        parts,
    )
