"""How the arrays on the way to a function's results have to be split."""

import functools
import math
from collections.abc import Sequence
from typing import Any

from jax.extend import core

from rahf.benchmarks.dimensions import input_dimension, shape_of
from rahf.benchmarks.liveness import Split

#: Operations that read a part of an array where it lies.
PARTS = ("dynamic_slice", "slice", "split", "unstack")
#: All others are elementwise or changes of shape, and so is a sum over one element.
HELD = ("argmax", "argmin", "concatenate", "conv_general_dilated", "cumlogsumexp") + (
    ("cummax", "cummin", "cumprod", "cumsum", "dot_general", "dynamic_update_slice")
    + ("ffi_call", "gather", "pallas_call", "random_bits", "ragged_dot", "reduce")
    + ("reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod")
    + ("reduce_sum", "scatter", "scatter-add", "scatter_add", "select_and_gather_add")
    + (
        "sort",
        "stack",
        "threefry2x32",
        "top_k",
        "reduce_window_sum",
        "reduce_window_max",
    )
)
_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def is_held(equation: core.JaxprEqn) -> bool:
    """Returns whether the output of an operation is held in memory."""
    name = equation.primitive.name
    if name.startswith("reduce_"):
        before, after = (
            math.prod(shape_of(v)) for v in (equation.invars[0], equation.outvars[0])
        )
        return before != after or before == 1
    return name in HELD


def called(equation: core.JaxprEqn) -> Any:
    """Returns the function that an operation calls once, or None (jit, remat, custom
    rules, shard_map)."""
    for name in _BODIES:
        body = equation.params.get(name)
        body = getattr(body, "jaxpr", body)
        given = len(equation.invars), len(equation.outvars)
        if isinstance(body, core.Jaxpr) and given == (
            len(body.invars),
            len(body.outvars),
        ):
            return body
    return None


def pull(jaxpr, wanted: Sequence[Split | None]) -> dict[Any, Split]:
    """Returns how arrays on the way to a function's results have to be split.

    From each result back through elementwise operations and changes of shape, to where
    the values come from. An array that is absent does not become part of a result.
    """
    found: dict[Any, Split] = {}
    for variable, split in zip(jaxpr.outvars, wanted, strict=True):
        if split is not None and isinstance(variable, core.Var):
            found.setdefault(variable, split)
    for equation in reversed(jaxpr.eqns):
        aims = [found.get(v) for v in equation.outvars]
        if all(aim is None for aim in aims):
            continue
        for variable, aim in _aims_of_inputs(equation, aims):
            if aim is not None and isinstance(variable, core.Var):
                found.setdefault(variable, aim)
    return found


def _aims_of_inputs(equation, aims):
    """(input, how it is to be split or None) of one operation."""
    name = equation.primitive.name
    body = called(equation)
    if body is not None:
        inner = pull(body, aims)
        return zip(equation.invars, map(inner.get, body.invars), strict=True)
    if name == "scan":
        body, carried = equation.params["jaxpr"].jaxpr, equation.params["num_carry"]
        fixed = equation.params["num_consts"]
        inner = pull(body, [*aims[:carried], *[None] * (len(aims) - carried)])
        carries = body.invars[fixed : fixed + carried]
        return zip(
            equation.invars[fixed : fixed + carried],
            map(inner.get, carries),
            strict=True,
        )
    if is_held(equation) or name in ("while", "cond", "broadcast_in_dim"):
        return ()
    aim = next(aim for aim in aims if aim is not None)
    follow = functools.partial(_aim_of_operand, equation, aim)
    return [(v, follow(index)) for index, v in enumerate(equation.invars)]


def _aim_of_operand(equation, aim: Split, operand: int) -> Split | None:
    before = shape_of(equation.invars[operand])
    after = shape_of(equation.outvars[0])
    if equation.primitive.name not in PARTS and math.prod(before) != math.prod(after):
        return None  # a scalar, say
    places = {a: input_dimension(equation, operand, d) for a, d in aim.items()}
    return {axis: place for axis, place in places.items() if place is not None}
