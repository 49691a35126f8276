"""Follows a sharded dimension through an operation, in either direction."""

import math

from jax.extend import core

#: The dimension is summed over: each device has a part of the sum.
SUMMED = -1


def shape_of(variable) -> tuple[int, ...]:
    """Returns the shape of a value in a jaxpr; () of what is not an array."""
    return getattr(variable.aval, "shape", ())


def output_dimension(equation: core.JaxprEqn, operand: int, dimension: int):
    """Returns where a dimension of an operand is in the (first) output.

    Returns:
      Its index, `SUMMED`, or None where it cannot be followed.
    """
    name, params = equation.primitive.name, equation.params
    before = shape_of(equation.invars[operand])
    after = shape_of(equation.outvars[0])
    if name == "transpose":
        return params["permutation"].index(dimension)
    if name == "broadcast_in_dim":
        place = params["broadcast_dimensions"][dimension]
        return place if after[place] == before[dimension] else None
    if name == "reshape":
        return _reshaped(before, after, dimension)
    if name == "squeeze":
        return dimension - sum(axis < dimension for axis in params["dimensions"])
    if name == "stack":
        return dimension + (params["axis"] <= dimension)
    if name == "unstack":
        axis = params["axis"]
        return None if dimension == axis else dimension - (axis < dimension)
    if name == "dot_general":
        return _multiplied(equation, operand, dimension)
    if name == "conv_general_dilated":
        return _convolved(params["dimension_numbers"], operand, dimension)
    if name == "gather":
        return _gathered(params["dimension_numbers"], operand, dimension)
    if name.startswith(("reduce_", "arg")) and "axes" in params:
        axes = params["axes"]
        if dimension in axes:
            return SUMMED
        return dimension - sum(axis < dimension for axis in axes)
    if name.startswith("scatter") and operand:
        return None
    same = len(before) == len(after) and before[dimension] == after[dimension]
    return dimension if same else None


def input_dimension(equation: core.JaxprEqn, operand: int, dimension: int):
    """Returns which dimension of an operand becomes this one of the output, or None."""
    rank = len(shape_of(equation.invars[operand]))
    for candidate in range(rank):
        if output_dimension(equation, operand, candidate) == dimension:
            return candidate
    return None


def _reshaped(before, after, dimension: int):
    """The same number of elements precede it; of a merged or split one, the major part
    is followed."""
    if before[dimension] == 1:
        return None
    preceding = math.prod(before[:dimension])
    for place, size in enumerate(after):
        if size > 1 and math.prod(after[:place]) == preceding:
            return place
    return None


def _multiplied(equation: core.JaxprEqn, operand: int, dimension: int):
    contract, batch = equation.params["dimension_numbers"]
    if dimension in contract[operand]:
        return SUMMED
    if dimension in batch[operand]:
        return batch[operand].index(dimension)
    taken = (*contract[operand], *batch[operand])
    place = len(batch[0]) + dimension - sum(axis < dimension for axis in taken)
    if operand:
        rank = len(shape_of(equation.invars[0]))
        place += rank - len(contract[0]) - len(batch[0])
    return place


def _convolved(numbers, operand: int, dimension: int):
    spec = (numbers.lhs_spec, numbers.rhs_spec)[operand]
    if dimension == spec[1]:
        return SUMMED  # input channels
    if dimension == spec[0]:  # examples, or output channels
        return numbers.out_spec[operand]
    return None


def _gathered(numbers, operand: int, dimension: int):
    """Rows that each device has looked up in its part of the table are added."""
    if operand:
        return None
    if dimension in numbers.collapsed_slice_dims:
        return SUMMED
    kept = dimension - sum(axis < dimension for axis in numbers.collapsed_slice_dims)
    return numbers.offset_dims[kept] if kept < len(numbers.offset_dims) else None
