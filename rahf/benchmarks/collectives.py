"""Reads off a compiled function what its devices exchange."""

import collections
import math
import re

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"\b(?:body|calls|to_apply|branch_computations)=\{?([^,}\s]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
#: The TPU's compiler does not say it; a scan counts from 0 up to a constant.
_CONDITION = re.compile(r" while\(.*condition=%?([\w.\-]+)")
_BOUND = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
_ARRAY = re.compile(r"\b([a-z]+\d+)(?:[a-z]\w*)?\[([\d,]*)\]")


def count_collectives(text: str) -> dict[str, tuple[int, int]]:
    """Returns kind -> (how many a compiled function runs, bytes of their results).

    Every trip of a loop counts; a loop with an unknown number of trips counts once.

    Args:
      text: the output of `jax.stages.Compiled.as_text`.
    """
    own: dict[str, collections.Counter] = {}
    calls: dict[str, list[tuple[str, str, int]]] = {}
    bounds: dict[str, int] = {}
    here = entry = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            here = head[2]
            entry = here if head[1] else entry
            own[here], calls[here] = collections.Counter(), []
        elif here:
            for result, kind, started in _COLLECTIVE.findall(line):
                own[here][kind, "count"] += 1
                own[here][kind, "bytes"] += _result_bytes(result, bool(started), kind)
            if bound := _BOUND.search(line):
                bounds[here] = max(int(bound[1]), bounds.get(here, 1))
            trips, condition = _TRIPS.search(line), _CONDITION.search(line)
            known = int(trips[1]) if trips else 0
            until = condition[1] if condition else ""
            for called in _CALLED.findall(line):
                calls[here].append((called.lstrip("%"), until, known))

    def count(name: str) -> collections.Counter:
        total = own.get(name, collections.Counter()).copy()
        for called, until, known in calls.get(name, ()):
            times = known or bounds.get(until, 1)
            for key, number in count(called).items():
                total[key] += times * number
        return total

    found = count(entry)
    return {
        kind: (found[kind, "count"], found[kind, "bytes"])
        for kind in KINDS
        if found[kind, "count"]
    }


def _result_bytes(result: str, started: bool, kind: str) -> int:
    """Bytes of the arrays in a result such as "(f32[8,2]{1,0}, bf16[4]{0})".

    One that only starts a gathering or permuting names its operands before its results.
    """
    sizes = [
        math.prod(int(n) for n in shape.split(",") if n) * int(re.sub(r"\D", "", kind_))
        for kind_, shape in _ARRAY.findall(result)
    ]
    if started and kind in ("all-gather", "collective-permute") and len(sizes) > 1:
        sizes = sizes[len(sizes) // 2 :] if kind == "all-gather" else sizes[1:2]
    return sum(sizes) // 8
