"""Counts what loops repeat: XLA's own counts include a loop's body only once."""

import collections
import re
from typing import Any

import jax
from jax.extend import core

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)
_COLLECTIVE = re.compile(rf"= .+? ({'|'.join(COLLECTIVES)})(?:-start)?\(")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"\b(?:body|calls|to_apply|branch_computations)=\{?([^,}\s]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def count_collectives(text: str) -> dict[str, int]:
    """Returns how many collectives a compiled function runs, counting every loop trip.

    Args:
      text: the output of `jax.stages.Compiled.as_text`. A loop with an unknown number
        of trips counts once.
    """
    own: dict[str, collections.Counter[str]] = {}
    calls: dict[str, list[tuple[str, int]]] = {}
    here = entry = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            here = head[2]
            entry = here if head[1] else entry
            own[here], calls[here] = collections.Counter(), []
        elif here:
            own[here].update(_COLLECTIVE.findall(line))
            trips = _TRIPS.search(line)
            for called in _CALLED.findall(line):
                times = int(trips[1]) if trips else 1
                calls[here].append((called.lstrip("%"), times))

    def count(name: str) -> collections.Counter[str]:
        total = own.get(name, collections.Counter()).copy()
        for called, times in calls.get(name, ()):
            for kind, number in count(called).items():
                total[kind] += times * number
        return total

    found = count(entry)
    return {name: found[name] for name in COLLECTIVES if found[name]}


def repeated_flops(jaxpr: core.ClosedJaxpr) -> float:
    """Returns the floating-point operations that XLA's count of a function leaves out.

    Args:
      jaxpr: the function, from `jax.jit(f).trace(...)`.

    Returns:
      The operations of the scans' bodies, at any depth, over all trips that XLA does
      not count; 0 without loops.

    Raises:
      ValueError: the number of trips of a loop depends on values
        (`jax.lax.while_loop`).
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "while":
            raise ValueError(
                "operations cannot be counted: the number of trips of a while_loop "
                "depends on values; use a scan, or a fori_loop with constant bounds"
            )
        if name == "scan":
            trips, unroll = params["length"], min(params["unroll"], params["length"])
            body = params["jaxpr"]
            # An unrolled loop has `unroll` copies of the body, and the rest beside it.
            counted = unroll + trips % unroll if unroll else 0
            inside = repeated_flops(body)
            total += trips * inside + (trips - counted) * _counted_flops(body)
        elif name == "cond":
            total += max(map(repeated_flops, params["branches"]))
        else:
            total += sum(map(repeated_flops, _inner(params)))
    return total


def _inner(params: dict[str, Any]) -> list[core.ClosedJaxpr]:
    """Returns the functions that an operation calls once (jit, remat, custom rules)."""
    found = []
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr):
            found.append(value)
        elif isinstance(value, core.Jaxpr) and not value.constvars:
            found.append(core.ClosedJaxpr(value, ()))
    return found


def _counted_flops(jaxpr: core.ClosedJaxpr) -> float:
    """Returns XLA's count of a function, which includes each loop's body once."""
    lowered = jax.jit(core.jaxpr_as_fun(jaxpr)).lower(*jaxpr.in_avals)
    return xla_flops(lowered)


def xla_flops(lowered: jax.stages.Lowered) -> float:
    """Returns XLA's count before optimisation; raises ValueError if it makes none."""
    costs = lowered.cost_analysis()
    if not costs:
        raise ValueError("this version of JAX does not count operations")
    return float(costs.get("flops", 0.0))
