"""The command `rahf.bin.plan`: counts, compares, compiles, prints and writes."""

import copy
import dataclasses
import json
import sys

from rahf import durable
from rahf.benchmarks import layouts, plan_text
from rahf.benchmarks.ahead_of_time import Compiled, check_compilable, compile_for
from rahf.benchmarks.chips import Topology, parse_topology
from rahf.benchmarks.plan import CORE_RATE, UTILISATION, Assumptions, Plan, make_plan

_COMPILES = 3  # at most, to confirm the largest batch
_SMALLER = 0.9  # the next batch to try, of one that does not fit


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags of the command."""

    topology: str
    analytic: bool = False
    largest_batch: bool = False
    compare: bool = False
    utilisation: float = UTILISATION
    core_rate: float = CORE_RATE
    json: str = ""


def run(config, request: Request) -> None:
    """Does what the command is asked, and prints it.

    Raises:
      ValueError: the topology is unknown, or the config does not fit it.
      OSError: the output cannot be written.
    """
    topology = parse_topology(request.topology)
    assumed = Assumptions(request.utilisation, request.core_rate)
    if request.compare and request.largest_batch:
        raise ValueError("--compare and --largest_batch exclude each other")
    if not (request.analytic or request.compare):
        check_compilable(topology)
    if request.json:
        durable.check_file(request.json, flag="--json")
    compiled = None
    if request.compare:
        plans = layouts.compare(config, topology, assumed, say=_say)
        print(plan_text.comparison(plans))
        print(layouts.reason(plans))
    else:
        find = layouts.largest_batch if request.largest_batch else make_plan
        plans = [find(config, topology, assumed=assumed)]
        print(plan_text.text(plans[0]), flush=True)
        if not request.analytic:
            plan, compiled = _compile(config, topology, plans[0], request)
            plans = [plan]
    if request.json:
        found = plan_text.as_json(plans, compiled)
        durable.write_text(request.json, json.dumps(found, indent=2) + "\n")


def _compile(
    config, topology: Topology, plan: Plan, request: Request
) -> tuple[Plan, Compiled]:
    """Compiles a plan; of the largest batch, also smaller ones until one fits."""
    step = plan.batch_size // plan.chip_batch * plan.accumulation
    assumed = Assumptions(request.utilisation, request.core_rate)
    for left in reversed(range(_COMPILES if request.largest_batch else 1)):
        changed = copy.deepcopy(config)
        changed.input.batch_size = plan.batch_size
        compiled = compile_for(changed, topology, plan.operations)
        print(plan_text.compiled_text(compiled, plan), flush=True)
        smaller = int(_SMALLER * plan.batch_size) // step * step
        if compiled.needed_bytes <= topology.chip.hbm_bytes or not (left and smaller):
            break
        _say(f"trying a batch of {smaller}")
        changed.input.batch_size = smaller
        plan = make_plan(changed, topology, assumed=assumed)
    if request.largest_batch and compiled.needed_bytes <= topology.chip.hbm_bytes:
        print(f"a batch of {plan.batch_size} fits, confirmed by the compiler")
    return plan, compiled


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
