"""The train state with the layers of each stack joined, for steps that scan them.

Array by array, the optimizer and its compilation grow with the depth of the model, which
a scan over the layers was to end. So between steps, arrays that are alike in all layers
of a stack are held as one, [layers, ...]. Each layer's is still an array of its own to
the optimizer: Adafactor's factors and every norm are per layer. Checkpoints, predictions
and weights have the layers one by one, and never see this form.

Joining the arrays inside the step instead was measured, and is no better than not joining
them (docs/scale.md).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rahf.models import sharding
from rahf.weights import matching

#: Makes one of the leaves of a stack's layers; and back, of a leaf and their number.
Join = Callable[[list[Any]], Any]
Split = Callable[[Any, int], list[Any]]
#: The state of an optimizer with joined arrays: what all arrays share, such as a count
#: of steps, and {name of a stack: leaves of the state of one array, each [layers, ...]}.
JoinedState = dict[str, Any]


def _join(parts: list[Any]) -> Any:
    return jnp.stack(parts)


def _split(joined: Any, layers: int) -> list[Any]:
    return [joined[i] for i in range(layers)]


def _joined(parts: list[Any], join: Join) -> Any:
    return join(parts) if len(parts) > 1 else parts[0]


def _parts(joined: Any, layers: int, split: Split) -> list[Any]:
    return split(joined, layers) if layers > 1 else [joined]


def group(params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the names of the arrays that are alike in all layers of a stack.

    Args:
      params: {"encoder/layers_3/mlp/wi/kernel": array}.

    Returns:
      {the first layer's name: the names, first to last}; an array that has no others
      like it is a stack of its own.
    """
    found: dict[Any, list[tuple[int, str]]] = {}
    for name, leaf in params.items():
        # Of numbers in a name, the first is the layer's.
        layer = re.search(r"_(\d+)(?=/)", name)
        like = f"{name[: layer.start()]}_*{name[layer.end() :]}" if layer else name
        number = int(layer[1]) if layer else 0
        key = like, tuple(leaf.shape), leaf.dtype
        found.setdefault(key, []).append((number, name))
    stacks = [[name for _, name in sorted(each)] for each in found.values()]
    return {names[0]: names for names in stacks}


class Stacks:
    """Joins the layers of a train state, takes them apart, and updates them joined."""

    def __init__(
        self,
        clip: optax.GradientTransformation,
        update: optax.GradientTransformation,
        params: Any,
    ):
        """Finds the stacks.

        Args:
          clip: the part of the optimizer that looks at all gradients at once; without
            a state.
          update: the part that treats each array by itself.
          params: the parameters, or their shapes.
        """
        self._clip, self._update = clip, update
        flat = matching.flatten(params)
        self._groups = group(flat)
        state = jax.eval_shape(optax.chain(clip, update).init, params)
        leaves, self._structure = jax.tree.flatten(state)
        owners = _owners(optax.chain(clip, update), state, params)
        assert len(owners) == len(leaves)
        self._shared = [i for i, owner in enumerate(owners) if not owner]
        # For each array, the places of its own leaves among those of the whole state.
        self._places = {
            name: [i for i, owner in enumerate(owners) if owner == name]
            for name in flat
        }

    def join_params(self, params, join: Join = _join) -> dict[str, Any]:
        """Joins parameters, or what is known of each of them.

        Args:
          params: a tree with a leaf for each parameter.
          join: makes one of a stack's several leaves.

        Returns:
          {name of a stack: [layers, ...]}; a lone array keeps its shape.
        """
        flat = matching.flatten(params)
        return {
            stack: _joined([flat[name] for name in names], join)
            for stack, names in self._groups.items()
        }

    def split_params(self, joined: Mapping[str, Any], split: Split = _split) -> Any:
        """Inverts `join_params`."""
        flat = {}
        for stack, names in self._groups.items():
            parts = _parts(joined[stack], len(names), split)
            flat |= dict(zip(names, parts, strict=True))
        return matching.unflatten(flat)

    def join_state(self, state, join: Join = _join) -> JoinedState:
        """Joins the optimizer's state, as `join_params` does parameters."""
        leaves = jax.tree.leaves(state)
        stacks = {
            stack: [
                _joined([leaves[place] for place in column], join)
                for column in self._columns(names)
            ]
            for stack, names in self._groups.items()
        }
        return {"shared": [leaves[i] for i in self._shared], "stacks": stacks}

    def split_state(self, joined: JoinedState, split: Split = _split) -> Any:
        """Inverts `join_state`."""
        leaves = dict(zip(self._shared, joined["shared"], strict=True))
        for stack, names in self._groups.items():
            columns = self._columns(names)
            for column, leaf in zip(columns, joined["stacks"][stack], strict=True):
                parts = _parts(leaf, len(names), split)
                leaves |= dict(zip(column, parts, strict=True))
        return jax.tree.unflatten(self._structure, [leaves[i] for i in sorted(leaves)])

    def _columns(self, names: list[str]) -> list[tuple[int, ...]]:
        """Returns, for each leaf of an array's state, its place for each array."""
        return list(zip(*(self._places[name] for name in names), strict=True))

    def update(self, gradients, state: JoinedState, params):
        """The optimizer's update, of joined gradients, state and parameters.

        Returns:
          The joined updates and state.
        """
        gradients, _ = self._clip.update(gradients, self._clip.init(params), params)
        clipped: Any = gradients
        updates, stacks, shared = {}, {}, state["shared"]
        for stack, names in self._groups.items():
            updates[stack], stacks[stack], shared = self._update_stack(
                stack, len(names), clipped[stack], state, params[stack]
            )
        return updates, {"shared": shared, "stacks": stacks}

    def _update_stack(self, stack: str, layers: int, gradients, state, params):
        """Updates the arrays of one stack, each by itself."""
        own = self._places[self._groups[stack][0]]
        # The state of one array has its leaves in the order of the whole state.
        order = sorted([*own, *self._shared])
        one = jax.ShapeDtypeStruct(params.shape[layers > 1 :], params.dtype)
        # By its name, which an optimizer may go by.
        alone = lambda array: matching.unflatten({self._groups[stack][0]: array})
        structure = jax.tree.structure(jax.eval_shape(self._update.init, alone(one)))

        def update(gradient, param, own_leaves, shared_leaves):
            values = dict(zip(own, own_leaves, strict=True))
            values |= dict(zip(self._shared, shared_leaves, strict=True))
            before = jax.tree.unflatten(structure, [values[place] for place in order])
            change, after = self._update.update(alone(gradient), before, alone(param))
            values = dict(zip(order, jax.tree.leaves(after), strict=True))
            shared = [values[place] for place in self._shared]
            [change] = jax.tree.leaves(change)
            return change, [values[place] for place in own], shared

        if layers > 1:
            update = jax.vmap(update, in_axes=(0, 0, 0, None), out_axes=(0, 0, None))
        return update(gradients, params, state["stacks"][stack], state["shared"])


def _owners(optimizer, state, params) -> list[str]:
    """Returns, for each leaf of the state, the name of its parameter, or ""."""
    names = matching.unflatten({name: name for name in matching.flatten(params)})
    with sharding.nowhere():
        owned = optax.tree_utils.tree_map_params(
            optimizer,
            lambda leaf, name: leaf if sharding.is_masked(leaf) else name,
            state,
            names,
            transform_non_params=lambda _: "",
            is_leaf=sharding.is_masked,
        )
    return jax.tree.leaves(owned)


def join_sharding(parts: list[jax.NamedSharding]) -> jax.NamedSharding:
    """Returns the sharding of joined arrays: that of each, and layers not sharded."""
    return jax.NamedSharding(parts[0].mesh, jax.P(None, *parts[0].spec))


def join_shapes(parts: list[jax.ShapeDtypeStruct]) -> jax.ShapeDtypeStruct:
    """Returns the shape of joined arrays, with its sharding."""
    one = parts[0]
    placed = join_sharding([part.sharding for part in parts])
    return jax.ShapeDtypeStruct((len(parts), *one.shape), one.dtype, sharding=placed)


def join_on_devices(parts: list[jax.Array]) -> jax.Array:
    """Joins arrays where they are, and gives up their memory."""
    joined = jax.jit(
        jnp.stack,
        out_shardings=join_sharding([part.sharding for part in parts]),  # pyright: ignore
    )(parts)
    for part in parts:
        part.delete()
    return joined


def split_on_devices(joined: jax.Array, layers: int, keep: bool = False):
    """Inverts `join_on_devices`; leaves `joined` usable if told to."""
    placed: Any = joined.sharding
    one = jax.NamedSharding(placed.mesh, jax.P(*placed.spec[1:]))
    parts = jax.jit(_split, static_argnums=1, out_shardings=[one] * layers)(
        joined, layers
    )
    if not keep:
        joined.delete()
    return parts
