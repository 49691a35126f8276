"""Compiles the train step for a TPU slice that need not be there.

XLA's TPU compiler comes with `pip install "rahf[tpu]"` and needs no TPU. It works in a
process of its own, so that it can be watched and stopped, for as long as half an hour.
"""

import dataclasses
import importlib.util
import json
import multiprocessing
import os
import pathlib
import re
import signal
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

from jax.experimental import topologies

from rahf import durable
from rahf.benchmarks.chips import Topology
from rahf.benchmarks.collectives import count_collectives
from rahf.benchmarks.traces import trace_step

#: Seconds per operation of the jaxpr until this machine has compiled something: see
#: docs/scale.md for what it was measured on.
SECONDS_PER_OPERATION = 0.015
_EVERY = 5.0  # seconds between lines of progress where they are not rewritten
_KEPT = 50  # records of compile times


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of the step on one chip.

    Attributes:
      needed_bytes: all that the step needs of the chip's memory.
      temporary_bytes: of it, activations, gradients and the like.
      flops: operations as XLA counts them, which is loops' bodies once; None if the
        step does not fit, as then it says nothing but how much it needs.
      collectives: kind -> (how many a step runs, bytes of their results), every trip of
        a loop counted.
      seconds: how long it took to compile.
    """

    needed_bytes: float
    temporary_bytes: float | None
    flops: float | None
    collectives: dict[str, tuple[int, int]]
    seconds: float


def tpu_devices(topology: str) -> list[Any]:
    """Returns the chips of a TPU slice, to compile for.

    Args:
      topology: the generation and shape, such as "v5e:4x8" or "v4:4x4x4".

    Raises:
      ValueError: libtpu is not installed, or does not know the slice.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # it answers on TPU hosts only
    # Otherwise a second process fails on /tmp/libtpu_lockfile: libtpu believes that it
    # holds the machine's TPU, of which compiling uses none.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # With this option, the two cores of a v4 chip are one device to JAX.
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        slice_ = topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **options
        )
    except Exception as error:  # the type depends on the version of JAX
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--topology={topology}: {reason}; expected a slice such as v5e:4x8 or "
            'v4:4x4x4, and libtpu: pip install "rahf[tpu]"'
        ) from error
    return list(slice_.devices)


def compile_step(config, devices: Sequence[Any]) -> Compiled:
    """Compiles the train step of a config for some devices, in this process.

    Raises:
      ValueError: the mesh or the batch does not fit the devices.
    """
    started = time.monotonic()
    traced, *_ = trace_step(config, devices, joined=True)
    try:
        compiled = traced.lower().compile()
    except Exception as error:  # the type depends on the version of JAX
        needed = _exhausted(str(error))
        if needed is None:
            raise
        return Compiled(needed, None, None, {}, time.monotonic() - started)
    memory = compiled.memory_analysis()
    own = memory.output_size_in_bytes - memory.alias_size_in_bytes
    held = memory.argument_size_in_bytes + memory.generated_code_size_in_bytes
    return Compiled(
        needed_bytes=held + own + memory.temp_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        flops=float(compiled.cost_analysis()["flops"]),
        collectives=count_collectives(compiled.as_text()),
        seconds=time.monotonic() - started,
    )


def _exhausted(message: str) -> float | None:
    """Returns the bytes that the compiler wanted, of "Used 20.51G of 15.75G hbm"."""
    found = re.search(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm", message)
    if found is None:
        return None
    return float(found[1]) * 1024.0 ** ("KMGT".index(found[2]) + 1)


def check_compilable(topology: Topology) -> None:
    """Raises ValueError if the compiler does not know the chips, or is not installed."""
    if not topology.chip.is_tpu or topology.slices > 1:
        raise ValueError(
            f"--topology={topology.name} can be counted but not compiled for, which "
            "takes one TPU slice; add --analytic"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            'compiling for a TPU needs libtpu: pip install "rahf[tpu]", or add '
            "--analytic to count only"
        )


def compile_for(config, topology: Topology, operations: int) -> Compiled:
    """Compiles for a TPU slice in another process, and says on stderr how it goes.

    Args:
      config: the training config.
      topology: one slice.
      operations: the jaxpr's, which say how long it may take.

    Raises:
      ValueError: it cannot be compiled for this slice.
      KeyboardInterrupt: after it has been stopped.
    """
    check_compilable(topology)
    context = multiprocessing.get_context("spawn")  # a forked JAX may hang
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(
        target=_work, args=(sender, config, topology.name, os.getpid()), daemon=True
    )
    child.start()
    sender.close()
    records = Records()
    try:
        _watch(receiver, records.expected(operations, topology.name), sys.stderr)
        kind, value = receiver.recv()
    except EOFError:
        child.join()
        raise ValueError(
            f"--topology={topology.name}: the compiler ended with exit code "
            f"{child.exitcode} and no result; was it out of this machine's memory?"
        ) from None
    finally:
        child.kill()
        child.join()
    if kind == "error":
        raise ValueError(value)
    records.add(operations, topology.name, value.seconds)
    return value


def _work(sender, config, topology: str, parent: int) -> None:
    """The other process: compiles, and sends ("compiled", ...) or ("error", line)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # libtpu complains on stderr that this machine is no TPU host.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        found = "compiled", compile_step(config, tpu_devices(topology))
    except Exception as error:  # noqa: BLE001  whatever the compiler raises
        found = "error", " ".join(str(error).split())[:1000]
    sender.send(found)


def _end_with(parent: int) -> None:
    """Ends this process with the one that wants its result."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _watch(receiver, expected: str, out: TextIO) -> None:
    """Waits for a result and says how long it has been; a terminal gets one line."""
    terminal, started = out.isatty(), time.monotonic()
    while not receiver.poll(1.0 if terminal else _EVERY):
        line = f"compiling: {time.monotonic() - started:.0f} s, {expected}"
        print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=out)
        out.flush()
    if terminal:
        print(file=out)


class Records:
    """How long compiling took on this machine, in the user's cache folder.

    Args:
      path: a JSON file; by default compile_times.json in ~/.cache/rahf, or below
        XDG_CACHE_HOME.
    """

    def __init__(self, path: pathlib.Path | None = None):
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        self._path = path or pathlib.Path(cache) / "rahf" / "compile_times.json"

    def _read(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
            return [r for r in found if {"operations", "seconds"} <= r.keys()]
        except (OSError, ValueError, TypeError, AttributeError):
            return []  # none yet, or not ours: an expectation is all that is lost

    def expected(self, operations: int, topology: str) -> str:
        """Returns how long it took last time, or may take."""
        records = self._read()
        for record in reversed(records):
            if (record["operations"], record.get("topology")) == (operations, topology):
                return f"took {record['seconds']:.0f} s last time"
        rates = [r["seconds"] / max(r["operations"], 1) for r in records]
        rate = statistics.median(rates) if rates else SECONDS_PER_OPERATION
        return f"about {rate * operations:.0f} s expected"

    def add(self, operations: int, topology: str, seconds: float) -> None:
        """Adds a record; does nothing where the folder cannot be written to."""
        record = {"operations": operations, "topology": topology, "seconds": seconds}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            kept = [*self._read(), record][-_KEPT:]
            durable.write_text(self._path, json.dumps(kept, indent=1))
        except OSError:
            pass
