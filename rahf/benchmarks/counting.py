"""Counts what a function costs a device, from its jaxpr: nothing is run or compiled.

Operations are those of matrix products and convolutions, which is what a chip's peak
rate and MFU are about. Loops count as often as they run, at any depth.

Memory is estimated by liveness. Outputs of products, convolutions, reductions, lookups
and loops are held from where they are made to where they are last read. Elementwise
operations and changes of shape are fused with what they read or are read by, as XLA does;
but those that have several readers are held if they are costly (`COSTLY`), or if making
them again would read more than they are large. Traffic is each held array written once,
and read by each operation.

Sharding of parameters along the mesh axes fsdp and model is followed through the
operations (`rahf.benchmarks.dimensions`); examples are taken to be split already.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

from jax.extend import core

from rahf.benchmarks.aims import PARTS, called, is_held, pull
from rahf.benchmarks.dimensions import SUMMED, output_dimension, shape_of
from rahf.benchmarks.liveness import Array, Liveness, Split

#: Elementwise operations that are not repeated for a second reader.
COSTLY = frozenset(
    ("cbrt", "erf", "erf_inv", "exp", "exp2", "log", "log1p", "logistic")
    + ("pow", "rsqrt", "sqrt", "tanh", "sin", "cos", "expm1")
)
#: Sums over examples where their output is a gradient.
_SUMS = ("dot_general", "conv_general_dilated", "reduce_sum", "scatter-add", "cumsum")
#: What a sum may wait for, to be reduced together with others.
_LINEAR = ("add", "add_any", "copy", "neg", "reshape", "squeeze", "transpose")
_SMALL = 1024  # bytes that are not worth following
_SLACK = 1.25  # what may be read instead of an array, in sizes of the array


@dataclasses.dataclass
class OperationCounts:
    """What one call costs.

    Attributes:
      flops: operations of products and convolutions, all of the model axis together.
      device_flops: those of one device.
      hbm_bytes: bytes that one device reads and writes.
      peak_bytes: the most that one device holds at once, without inputs and outputs.
      gradient_bytes: what gradients take of it.
      collectives: (kind, mesh axis) -> bytes of the whole arrays, and how many.
      operations: number of operations, those in loops once.
      unknown_loops: while loops, whose trips depend on values and are counted as one.
    """

    flops: float = 0.0
    device_flops: float = 0.0
    hbm_bytes: float = 0.0
    peak_bytes: float = 0.0
    gradient_bytes: float = 0.0
    collectives: dict[tuple[str, str], list[float]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(lambda: [0.0, 0.0])
    )
    operations: int = 0
    unknown_loops: int = 0

    def add(self, other: "OperationCounts", times: float = 1) -> None:
        """Adds all but the peak."""
        self.flops += times * other.flops
        self.device_flops += times * other.device_flops
        self.hbm_bytes += times * other.hbm_bytes
        self.operations += other.operations
        self.unknown_loops += other.unknown_loops
        for key, (size, number) in other.collectives.items():
            self.collect(*key, times * size, times * number)

    def collect(self, kind: str, axis: str, size: float, number: float = 1) -> None:
        total = self.collectives[kind, axis]
        total[0] += size
        total[1] += number


def count(
    jaxpr: core.ClosedJaxpr,
    axes: Mapping[str, int] | None = None,
    inputs: Sequence[Split] | None = None,
    outputs: Sequence[Split | None] | None = None,
) -> OperationCounts:
    """Counts a function.

    Args:
      jaxpr: the function, on the examples of one device (or one group of devices along
        the model axis).
      axes: devices along each mesh axis; one each by default.
      inputs: how the arguments are split.
      outputs: how the results are split; None where a result is not a new state, so
        that nothing that becomes part of it is a gradient.
    """
    body = jaxpr.jaxpr
    walk = _Walk(dict(axes or {}))
    splits = inputs or [{}] * len(body.invars)
    given = [walk.array(v, s) for v, s in zip(body.invars, splits, strict=True)]
    results = walk.run(body, given, list(outputs or [None] * len(body.outvars)))
    for array in results:
        walk.reduce(array)
    # State is updated in place, each array read once.
    made = [array for array in results if array.roots]
    read = dict.fromkeys(root for array in made for root in array.roots or ())
    walk.counts.hbm_bytes += sum(array.size for array in (*made, *read))
    for array in (*results, *read):
        walk.memory.touch(array)
    walk.counts.peak_bytes, walk.counts.gradient_bytes = walk.memory.peak()
    return walk.counts


class _Walk:
    """Goes through a function and the functions it calls; loop bodies get their own."""

    def __init__(self, axes: dict[str, int]):
        self.axes = {axis: size for axis, size in axes.items() if size > 1}
        self.counts, self.memory = OperationCounts(), Liveness()

    def array(self, variable, split: Split, roots=None) -> Array:
        """A new array of the size that one device has of it."""
        aval = variable.aval
        shape = getattr(aval, "shape", ())
        kept = {
            axis: place
            for axis, place in split.items()
            if axis in self.axes and shape[place] % self.axes[axis] == 0
        }
        size = math.prod(shape) * getattr(aval.dtype, "itemsize", 4)
        return Array(size / self._parts(kept), kept, roots)

    def _parts(self, split: Split) -> int:
        return math.prod(self.axes[axis] for axis in split)

    def run(self, jaxpr, inputs: Sequence[Array], wanted: list[Split | None]):
        """Follows a function; returns its outputs.

        Args:
          jaxpr: the function.
          inputs: its arguments.
          wanted: how its results will be split, see `count`.
        """
        values = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable in jaxpr.constvars:
            values[variable] = self.array(variable, {})
        readers = collections.Counter(
            v for e in jaxpr.eqns for v in e.invars if isinstance(v, core.Var)
        )
        aims = pull(jaxpr, wanted)
        read = lambda v: values[v] if isinstance(v, core.Var) else Array(0, {})
        for equation in jaxpr.eqns:
            self.memory.clock += 1
            self.counts.operations += 1
            arrays = [read(v) for v in equation.invars]
            aim = [aims.get(v) for v in equation.outvars]
            outputs = self._apply(equation, arrays, aim, readers)
            values.update(zip(equation.outvars, outputs, strict=True))
        results = [read(v) for v in jaxpr.outvars]
        return results

    def _apply(self, equation, arrays, aims, readers) -> list[Array]:
        name = equation.primitive.name
        if name in ("scan", "while", "cond"):
            for array in arrays:
                self.reduce(array)
            step = {"scan": self._scan, "while": self._while, "cond": self._cond}[name]
            return step(equation, arrays, aims)
        body = called(equation)
        if body is not None:
            if equation.params.get("differentiated"):  # what was kept for the remat
                for array in arrays:
                    self._hold(array)
            return self.run(body, arrays, aims)
        linear = name in _LINEAR and len({a.summed for a in arrays}) == 1
        if not linear:
            for array in arrays:
                self.reduce(array)
        if is_held(equation):
            return self._held(equation, arrays, aims, readers)
        return self._fused(equation, arrays, aims, readers)

    def _fused(self, equation, arrays, aims, readers) -> list[Array]:
        """An elementwise operation, or a change of shape."""
        roots = dict.fromkeys(r for a in arrays for r in a.roots or (a,) if r.size)
        name, results = equation.primitive.name, []
        for variable, aim in zip(equation.outvars, aims, strict=True):
            split, _ = self._split(equation, arrays)
            if "fsdp" in split and name == "broadcast_in_dim" and _grows(equation):
                self._gather(arrays[0], split)
            array = self.array(variable, split | (aim or {}), tuple(roots))
            array.gradient = aim is not None
            array.summed = arrays[0].summed if arrays else frozenset()
            results.append(array)
            converted = name == "convert_element_type" and array.gradient
            part = converted and arrays[0].whole is not None  # see `_finish`
            if part or (name in PARTS and arrays[0].roots is None):
                array.roots, array.whole = None, arrays[0].whole or arrays[0]
            elif (
                array.size <= _SMALL
                or (readers[variable] > 1 and (name in COSTLY or _is_sum(array)))
                # Gradients wait for the last of them in the type of the parameters.
                or converted
            ):
                self.reduce(array)
                self._hold(array)
        return results

    def _held(self, equation, arrays, aims, readers) -> list[Array]:
        """An operation that reads its operands from memory and writes its output."""
        name, results = equation.primitive.name, []
        split, summed = self._split(equation, arrays)
        if name in ("dot_general", "conv_general_dilated"):
            flops = product_flops(equation)
            parts = self.axes.get("model", 1) if "model" in (*split, *summed) else 1
            self.counts.flops += flops
            self.counts.device_flops += flops / parts
            for array in arrays:
                if "fsdp" in array.split:
                    self._gather(array, split)
            summed.discard("fsdp")
        for array in arrays:
            self._read(array, reduces=name.startswith("reduce_"))
        for variable, aim in zip(equation.outvars, aims, strict=True):
            array = self.array(variable, split | (aim or {}))
            array.gradient, sums = aim is not None, set(summed)
            if aim is not None and name in _SUMS:
                sums |= {"data", "fsdp"}
            array.summed = frozenset(sums & set(self.axes))
            array.sole = name == "dot_general" and readers[variable] == 1
            self.memory.hold(array)
            self.counts.hbm_bytes += array.size
            results.append(array)
        return results

    def _split(self, equation, arrays) -> tuple[Split, set[str]]:
        """Returns how the output is split, and along which axes it is a part of a sum."""
        split: Split = {}
        summed = set()
        for index, array in enumerate(arrays):
            for axis, dimension in array.split.items():
                place = output_dimension(equation, index, dimension)
                if place == SUMMED:
                    summed.add(axis)
                elif place is not None and place not in split.values():
                    split.setdefault(axis, place)
        if equation.primitive.name.startswith(("reduce_max", "reduce_min", "arg")):
            summed = set()  # small, and not a sum
        return {a: d for a, d in split.items() if a not in summed}, summed

    def _gather(self, array: Array, split: Split) -> None:
        """Makes a parameter whole, for as long as it is used."""
        split.pop("fsdp", None)
        whole = array.size * self.axes["fsdp"]
        self.counts.collect("all-gather", "fsdp", whole)
        self.memory.extra(whole)

    def reduce(self, array: Array) -> None:
        """Adds the parts that devices have of a sum."""
        size = array.size
        if "fsdp" in array.summed and "fsdp" in array.split:
            self.counts.collect("reduce-scatter", "fsdp", size * self.axes["fsdp"])
        for axis in sorted(array.summed):
            if axis not in array.split:
                self.counts.collect("all-reduce", axis, size)
        array.summed = frozenset()

    def _read(self, array: Array, reduces: bool) -> None:
        """An operation reads an array from memory, or what it is made of.

        XLA reduces an array in several ways, such as to mean and variance, in one pass.
        """
        for root in array.roots or (array,):
            self.memory.touch(root)
            self.counts.hbm_bytes += 0 if reduces and root.reduced else root.size
            root.reduced |= reduces

    def _hold(self, array: Array) -> None:
        """Writes an array that was to be fused to memory."""
        if array.roots is None:
            self.memory.touch(array)
            return
        roots = array.roots
        self.memory.hold(array)
        self.counts.hbm_bytes += array.size
        for root in roots:
            if root.sole and root.born == root.last and root.size <= array.size:
                self.memory.merge(root, array)  # fused into the product that made it
                self.counts.hbm_bytes -= root.size
            else:
                self.memory.touch(root)
                self.counts.hbm_bytes += root.size

    def _inside(self, body, inputs, wanted) -> tuple["_Walk", list[Array]]:
        """Follows a function whose memory is free again when it ends."""
        walk = _Walk(self.axes)
        outputs = walk.run(body, inputs, wanted)
        for array in outputs:
            walk.reduce(array)
            for root in array.roots or (array,):
                walk.memory.touch(root)
                walk.counts.hbm_bytes += root.size if array.roots else 0
            walk.counts.hbm_bytes += array.size if array.roots else 0
        walk.counts.peak_bytes, walk.counts.gradient_bytes = walk.memory.peak()
        return walk, outputs

    def _scan(self, equation, arrays, aims) -> list[Array]:
        params, body = equation.params, equation.params["jaxpr"].jaxpr
        fixed, carried = params["num_consts"], params["num_carry"]
        inputs = []
        for index, (variable, array) in enumerate(
            zip(body.invars, arrays, strict=True)
        ):
            shift = int(index >= fixed + carried)  # a slice of what is scanned
            split = {a: d - shift for a, d in array.split.items() if d >= shift}
            inputs.append(self.array(variable, split))
        wanted = [
            aim if aim is None or index < carried else _shifted(aim, -1)
            for index, aim in enumerate(aims)
        ]
        walk, outputs = self._inside(body, inputs, wanted)
        self.counts.add(walk.counts, params["length"])
        splits = [
            a.split if index < carried else _shifted(a.split, 1)
            for index, a in enumerate(outputs)
        ]
        return self._finish(equation, arrays, splits, walk.counts, aims)

    def _while(self, equation, arrays, aims) -> list[Array]:
        params = equation.params
        skipped, body = params["cond_nconsts"], params["body_jaxpr"].jaxpr
        inputs = [
            self.array(v, a.split)
            for v, a in zip(body.invars, arrays[skipped:], strict=True)
        ]
        walk, outputs = self._inside(body, inputs, aims)
        self.counts.add(walk.counts)
        self.counts.unknown_loops += 1
        splits = [array.split for array in outputs]
        return self._finish(equation, arrays, splits, walk.counts, aims)

    def _cond(self, equation, arrays, aims) -> list[Array]:
        walks = []
        for branch in equation.params["branches"]:
            inputs = [
                self.array(v, a.split)
                for v, a in zip(branch.jaxpr.invars, arrays[1:], strict=True)
            ]
            walks.append(self._inside(branch.jaxpr, inputs, aims))
        walk, outputs = max(walks, key=lambda found: found[0].counts.flops)
        self.counts.add(walk.counts)
        most = max((found.counts for found, _ in walks), key=lambda c: c.peak_bytes)
        return self._finish(equation, arrays, [a.split for a in outputs], most, aims)

    def _finish(self, equation, arrays, splits, inside, aims) -> list[Array]:
        """The outputs of a loop or branch, which its body has read and written."""
        for array in arrays:
            self._hold(array)
        self.memory.extra(inside.peak_bytes, inside.gradient_bytes)
        outputs = [
            self.array(v, s) for v, s in zip(equation.outvars, splits, strict=True)
        ]
        for array, variable, aim in zip(outputs, equation.outvars, aims, strict=True):
            array.gradient = aim is not None
            if array.gradient:  # XLA moves the conversion to float32 into the loop
                array.size *= max(1.0, 4 / variable.aval.dtype.itemsize)
            self.memory.hold(array)
        return outputs


def product_flops(equation: core.JaxprEqn) -> float:
    """Returns the operations of a product or convolution, two for each multiplication.

    Zeros that a dilated convolution puts between the values are not counted.
    """
    params, out = equation.params, math.prod(shape_of(equation.outvars[0]))
    left, right = (shape_of(v) for v in equation.invars[:2])
    if equation.primitive.name == "dot_general":
        (contract, _), _ = params["dimension_numbers"]
        return 2.0 * out * math.prod(left[d] for d in contract)
    spec = params["dimension_numbers"].rhs_spec
    terms = math.prod(right[d] for d in spec[1:])  # input channels of a group, window
    return 2.0 * out * terms / math.prod(params["lhs_dilation"])


def _shifted(split: Split, by: int) -> Split:
    return {axis: place + by for axis, place in split.items() if place + by >= 0}


def _is_sum(array: Array) -> bool:
    """Returns whether to make an array again takes more reading than to hold it."""
    return sum(root.size for root in array.roots or ()) > _SLACK * array.size


def _grows(equation: core.JaxprEqn) -> bool:
    before, after = shape_of(equation.invars[0]), shape_of(equation.outvars[0])
    return math.prod(after) > math.prod(before)
