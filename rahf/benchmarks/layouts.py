"""Looks for a better plan: the largest batch that fits, the best layout and remat."""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from rahf.benchmarks.chips import Topology
from rahf.benchmarks.plan import DEFAULT, Assumptions, Plan, make_plan, mesh_of
from rahf.benchmarks.traces import Traces
from rahf.models.remat import POLICIES

#: Sizes of the model axis that are compared: beyond a host's chips it is slow.
_MODEL = (1, 2, 4, 8)
#: Step times this near to each other are the same, given what the counts leave out.
_EQUAL = 1.03
_TRACES = 6  # at most, for the largest batch


def compare(
    config,
    topology: Topology,
    assumed: Assumptions = DEFAULT,
    say: Callable[[str], None] = lambda line: None,
) -> list[Plan]:
    """Plans every valid layout and remat of a config, the best first.

    Those that fit come first, then the least time of a step. What is as fast as the
    fastest is ordered by what exchanges less, then by what needs less memory.

    Args:
      config: the training config.
      topology: the chips.
      assumed: what cannot be counted.
      say: is told what is being counted.

    Raises:
      ValueError: no layout is valid.
    """
    traces, plans = Traces(config), []
    for remat, mesh in itertools.product(("", *POLICIES), meshes(config, topology)):
        say(f"counting {describe(mesh)}, remat {remat or 'none'}")
        plans.append(
            make_plan(
                config, topology, mesh=mesh, remat=remat, traces=traces, assumed=assumed
            )
        )
    if not plans:
        raise ValueError(
            f"config.input.batch_size={config.input.batch_size} divides among no layout "
            f"of {topology.name}'s {topology.size} chips; try a multiple of "
            f"{topology.size * config.optimizer.accumulation}"
        )
    fitting = [plan for plan in plans if plan.memory.total <= plan.memory.chip]
    fastest = min((plan.bound for plan in fitting or plans), default=0.0)

    def rank(plan: Plan):
        alike = max(plan.bound, _EQUAL * fastest)
        fits = plan.memory.total <= plan.memory.chip
        return not fits, alike, plan.seconds["interconnect"], plan.memory.total

    return sorted(plans, key=rank)


def meshes(config, topology: Topology) -> Iterator[dict[str, int]]:
    """Yields the meshes that a config can use: axis -> chips along it.

    The batch divides among data and fsdp, the attention heads among model, and
    parameters among fsdp, in which 1, a few, or all chips take part.
    """
    m, parts = config.model, config.optimizer.accumulation
    for model in _MODEL:
        heads = (m.vit.get("num_heads"), m.t5.get("num_heads"))
        if topology.size % model or any(n and n % model for n in heads):
            continue
        rest = topology.size // model
        if config.input.batch_size % (rest * parts):
            continue
        for fsdp in sorted({1, *(4**n for n in range(1, 5)), rest}):
            width = m.t5.get("embed_dim") or fsdp
            if rest % fsdp == 0 and width % fsdp == 0:
                yield {"data": rest // fsdp, "fsdp": fsdp, "model": model}


def reason(plans: list[Plan]) -> str:
    """Returns why the first of `compare` is recommended."""
    best = plans[0]
    room = best.memory
    if room.total > room.chip:
        return (
            f"none fits; {describe(best.mesh)} comes first: more chips, a smaller "
            "batch or more config.optimizer.accumulation are needed"
        )
    text = (
        f"recommended: {flags(best)}: {room.verdict}, and no other that fits is more "
        f"than {_EQUAL - 1:.0%} faster (bound by {best.binding})"
    )
    faster = [plan for plan in plans if plan.bound * _EQUAL < best.bound]
    if faster:
        text += f"; {describe(faster[0].mesh)} is faster, but does not fit"
    return text


def largest_batch(config, topology: Topology, assumed: Assumptions = DEFAULT) -> Plan:
    """Returns the plan with the largest batch that fits by the estimate.

    Memory grows with the batch in a straight line, or nearly, so a few steps are
    traced: two give the line, and the others correct it.

    Raises:
      ValueError: not even one example per chip and part fits.
    """
    mesh, traces = mesh_of(config, topology), Traces(config)
    shards, parts = mesh["data"] * mesh["fsdp"], config.optimizer.accumulation

    def plan(share: int) -> Plan:
        changed = copy.deepcopy(config)
        changed.input.batch_size = share * shards * parts
        return make_plan(changed, topology, mesh=mesh, traces=traces, assumed=assumed)

    tried: dict[int, Plan] = {1: plan(1), 2: plan(2)}
    room = tried[1].memory.chip - tried[1].memory.total
    if room < 0:
        raise ValueError(
            f"not one example fits on each chip: {tried[1].memory.verdict}; split "
            "parameters with --config.sharding.mesh.fsdp, or use --config.model.remat"
        )
    while len(tried) < _TRACES:
        low, high = sorted(tried)[-2:]
        slope = (tried[high].memory.total - tried[low].memory.total) / (high - low)
        share = int(high + (tried[high].memory.chip - tried[high].memory.total) / slope)
        if share in tried or share < 1:
            break
        tried[share] = plan(share)
    return max(
        (p for p in tried.values() if p.memory.total <= p.memory.chip),
        key=lambda found: found.batch_size,
    )


def describe(mesh: dict[str, int]) -> str:
    """Returns a mesh as "data 8 x fsdp 4 x model 1"."""
    return " x ".join(f"{axis} {size}" for axis, size in mesh.items())


def flags(plan: Plan) -> str:
    """Returns the flags that choose a plan's layout."""
    chosen: dict[str, Any] = {f"sharding.mesh.{a}": n for a, n in plan.mesh.items()}
    chosen["model.remat"] = bool(plan.remat)
    if plan.remat:
        chosen["model.remat_policy"] = plan.remat
    return " ".join(f"--config.{key}={value}" for key, value in chosen.items())
