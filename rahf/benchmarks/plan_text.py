"""Plans as text, and as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from rahf.benchmarks.ahead_of_time import Compiled
from rahf.benchmarks.chips import GIB
from rahf.benchmarks.layouts import describe
from rahf.benchmarks.plan import Plan, verdict


def text(plan: Plan) -> str:
    """Returns the tables of one plan."""
    memory = plan.memory
    least = {name: f"{1e3 * value:10.1f} ms" for name, value in plan.seconds.items()}
    least[plan.binding] += "  <- binds"
    parts = ("parameters", "optimizer", "gradients", "activations", "batch")
    lines = [
        f"{plan.topology}: {plan.chips} chips, {plan.hosts} hosts, "
        + f"{describe(plan.mesh)}; batch {plan.batch_size}, {plan.chip_batch} a chip, "
        + f"in {plan.accumulation} part(s); {plan.parameters / 1e6:.1f} M parameters",
        "",
        "HBM of a chip, counted (gradients and activations are an estimate)",
        *(f"  {name:<12}{getattr(memory, name) / GIB:11.2f} GiB" for name in parts),
        f"  {'total':<12}{memory.total / GIB:11.2f} GiB of {memory.chip / GIB:g}",
        "",
        "A step takes at least",
        *(f"  {name:<12}{value}" for name, value in least.items()),
        "",
        *(f"{name:<12}{value}" for name, value in _facts(plan).items()),
        "",
        f"by estimate, {memory.verdict}",
    ]
    return "\n".join(lines)


def _facts(plan: Plan) -> dict[str, str]:
    """What is not a table: a line each."""
    repeated = plan.executed_flops / plan.useful_flops
    exchanged = (
        f"{e.kind} {e.axis} {e.bytes / 1e9:.2f} GB, {1e3 * e.seconds:.1f} ms"
        for e in plan.exchanges
    )
    found = {
        "operations": f"{plan.useful_flops / 1e12:,.1f} TFLOP a step are useful, "
        f"{plan.executed_flops / 1e12:,.1f} are executed ({repeated - 1:.0%} more): at "
        f"best {plan.peak_utilisation:.0%} MFU, {plan.peak_utilisation * repeated:.0%} "
        "HFU",
        "HBM traffic": f"{plan.hbm_bytes / 1e9:,.1f} GB a chip and step",
        "collectives": "; ".join(exchanged) or "none",
        "run": f"{plan.training_steps:,} steps of {plan.step_seconds:.3f} s, assuming "
        f"{plan.utilisation:.0%} MFU where nothing else binds: "
        f"{plan.chip_hours / plan.chips:,.1f} h, {plan.chip_hours:,.0f} chip-hours",
        "input": f"{plan.examples_per_second:,.0f} examples/s: {plan.cores:.0f} host "
        f"cores, {plan.cores / plan.hosts:.1f} a host, at {plan.core_rate:g} "
        "examples/s a core",
    }
    if plan.unknown_loops:
        found["note"] = (
            f"{plan.unknown_loops} loop(s) whose trips depend on values are counted as "
            "one trip"
        )
    return found


def compiled_text(compiled: Compiled, plan: Plan) -> str:
    """Returns what the compiler says, and how far the estimate was from it."""
    said = verdict(compiled.needed_bytes, plan.memory.chip)
    lines = [f"compiled in {compiled.seconds:.0f} s: {said}"]
    if compiled.temporary_bytes:
        estimate = plan.memory.gradients + plan.memory.activations
        lines.append(
            f"  gradients and activations: {compiled.temporary_bytes / GIB:.2f} GiB; "
            f"the estimate was {estimate / compiled.temporary_bytes - 1:+.0%}"
        )
    lines += [
        f"  {kind}: {number:,} a step, {size / 1e9:.2f} GB"
        for kind, (number, size) in compiled.collectives.items()
    ]
    return "\n".join(lines)


def comparison(plans: Sequence[Plan], rows: int = 12) -> str:
    """Returns a table of layouts."""
    head = (
        "  data  fsdp model  remat        GiB a chip  least ms  bound by      best MFU"
    )
    lines = [head]
    for plan in plans[:rows]:
        fits = "" if plan.memory.total <= plan.memory.chip else "  does not fit"
        lines.append(
            f"{plan.mesh['data']:6}{plan.mesh['fsdp']:6}{plan.mesh['model']:6}  "
            f"{plan.remat or 'none':<10}{plan.memory.total / GIB:13.1f}{1e3 * plan.bound:10.1f}"
            f"  {plan.binding:<12}{plan.peak_utilisation:10.0%}{fits}"
        )
    if len(plans) > rows:
        lines.append(f"  and {len(plans) - rows} more, which rank lower")
    return "\n".join(lines)


def as_json(plans: Sequence[Plan], compiled: Compiled | None = None) -> dict[str, Any]:
    """Returns {"plans": [...], "compiled": {...} or None}, of numbers and strings."""
    properties = ("binding", "bound", "peak_utilisation", "step_seconds", "chip_hours")
    properties += ("examples_per_second", "cores")
    found = [
        dataclasses.asdict(plan)
        | {name: getattr(plan, name) for name in properties}
        | {"verdict": plan.memory.verdict}
        for plan in plans
    ]
    said = None if compiled is None else dataclasses.asdict(compiled)
    return json.loads(json.dumps({"plans": found, "compiled": said}))
