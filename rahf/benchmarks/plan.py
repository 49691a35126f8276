"""What a run costs on chips that need not be there: memory, time and what limits it.

Everything is counted from the train step's jaxpr (`rahf.benchmarks.counting`) and the
makers' figures (`rahf.benchmarks.chips`); nothing is compiled.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax

from rahf.benchmarks.chips import GIB, Topology
from rahf.benchmarks.traces import Step, Traces, device_bytes, remat_of
from rahf.models.sharding import MESH_AXES

#: Examples per second that a core makes, augmented and from 768-pixel JPEGs; the
#: lowest rate that docs/input.md has. `rahf.bin.benchmark_input` measures yours.
CORE_RATE = 93.0
#: The share of the peak that a run is assumed to use on useful operations (MFU).
UTILISATION = 0.4


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of a chip's memory; `gradients` and `activations` at the step's peak."""

    parameters: float
    optimizer: float
    gradients: float
    activations: float
    batch: float
    chip: float

    @property
    def total(self) -> float:
        parts = (self.parameters, self.optimizer, self.gradients, self.activations)
        return sum(parts) + self.batch

    @property
    def verdict(self) -> str:
        return verdict(self.total, self.chip)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A kind of collective along one mesh axis, over a step.

    Attributes:
      kind: "all-reduce", "all-gather" or "reduce-scatter".
      axis: the mesh axis.
      bytes: sizes of the whole arrays, added up.
      count: how many, before XLA combines them.
      seconds: how long they take at the stated bandwidth.
    """

    kind: str
    axis: str
    bytes: float
    count: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a config costs on a topology.

    Attributes:
      topology, chips, hosts: what it runs on.
      mesh: axis -> chips along it.
      batch_size, chip_batch: examples of a step, and of each chip along data and fsdp.
      accumulation: parts of a batch.
      remat: the policy of `rahf.models.remat`; "" if nothing is computed again.
      parameters: number of parameters.
      memory: of a chip.
      useful_flops: operations of a step of the whole batch, without repetition (MFU).
      executed_flops: with what remat repeats and chips do in duplicate (HFU).
      hbm_bytes: bytes that a chip reads and writes in a step.
      exchanges: the collectives.
      seconds: "compute", "HBM" and "interconnect": the least time of a step by each, at
        the stated peaks.
      operations: of the jaxpr, which say how long it takes to compile.
      unknown_loops: loops that were counted as one trip.
      utilisation: the assumed MFU.
      training_steps: of the config.
      core_rate: examples per second that a core of the host makes.
    """

    topology: str
    chips: int
    hosts: int
    mesh: dict[str, int]
    batch_size: int
    chip_batch: int
    accumulation: int
    remat: str
    parameters: int
    memory: Memory
    useful_flops: float
    executed_flops: float
    hbm_bytes: float
    exchanges: list[Exchange]
    seconds: dict[str, float]
    operations: int
    unknown_loops: int
    utilisation: float
    training_steps: int
    core_rate: float

    @property
    def binding(self) -> str:
        """What limits the step: "compute", "HBM" or "interconnect"."""
        return max(self.seconds, key=lambda name: self.seconds[name])

    @property
    def bound(self) -> float:
        """The least seconds of a step, if all three overlap perfectly."""
        return max(self.seconds.values())

    @property
    def peak_utilisation(self) -> float:
        """The MFU that a step within its bound would have."""
        return self._useful_seconds / self.bound

    @property
    def _useful_seconds(self) -> float:
        repeated = self.executed_flops / self.useful_flops
        return self.seconds["compute"] / repeated

    @property
    def step_seconds(self) -> float:
        """Seconds of a step at the assumed MFU, or the bound, if that is longer."""
        return max(self._useful_seconds / self.utilisation, self.bound)

    @property
    def chip_hours(self) -> float:
        return self.training_steps * self.step_seconds * self.chips / 3600

    @property
    def examples_per_second(self) -> float:
        return self.batch_size / self.step_seconds

    @property
    def cores(self) -> float:
        """Cores of all hosts that make the examples in time."""
        return self.examples_per_second / self.core_rate


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What is assumed, not counted: see `Plan`."""

    utilisation: float = UTILISATION
    core_rate: float = CORE_RATE

    def __post_init__(self):
        if not 0 < self.utilisation <= 1 or not self.core_rate > 0:
            raise ValueError(
                f"--utilisation={self.utilisation:g} must be in (0, 1] and --core_rate="
                f"{self.core_rate:g} above 0"
            )


DEFAULT = Assumptions()


def verdict(needed: float, chip: float) -> str:
    """Returns "fits: 5.6 of 16 GiB a chip, 10.4 GiB to spare", or by how much not."""
    used, size, rest = needed / GIB, chip / GIB, abs(chip - needed) / GIB
    if needed <= chip:
        return f"fits: {used:.1f} of {size:g} GiB a chip, {rest:.1f} GiB to spare"
    return f"does not fit: {used:.1f} of {size:g} GiB a chip, short by {rest:.1f} GiB"


def mesh_of(config, topology: Topology) -> dict[str, int]:
    """Returns axis -> chips along it, as `config.sharding.mesh` says.

    Raises:
      ValueError: the sizes do not multiply to the number of chips.
    """
    wanted = {axis: int(config.sharding.mesh[axis]) for axis in MESH_AXES}
    fixed = math.prod(size for size in wanted.values() if size != -1)
    mesh = {a: topology.size // fixed if n == -1 else n for a, n in wanted.items()}
    if math.prod(mesh.values()) != topology.size or fixed < 1:
        raise ValueError(
            f"config.sharding.mesh={wanted} uses {math.prod(mesh.values())} chips, but "
            f"{topology.name} has {topology.size}; set one axis to -1 to use all that "
            "remain"
        )
    return mesh


def make_plan(
    config,
    topology: Topology,
    *,
    mesh: Mapping[str, int] | None = None,
    remat: str | None = None,
    traces: Traces | None = None,
    assumed: Assumptions = DEFAULT,
) -> Plan:
    """Plans a run of a config on a topology.

    Args:
      config: the training config.
      topology: the chips.
      mesh: axis -> chips along it; that of the config by default.
      remat: a policy, or "" for none; that of the config by default.
      traces: of the same config, so that a step is not traced twice.
      assumed: what cannot be counted.

    Raises:
      ValueError: the mesh or the batch does not fit the chips.
    """
    mesh = dict(mesh or mesh_of(config, topology))
    remat = remat_of(config) if remat is None else remat
    traces = traces or Traces(config)
    size, parts = config.input.batch_size, config.optimizer.accumulation
    shards = mesh["data"] * mesh["fsdp"]
    if size % (shards * parts):
        raise ValueError(
            f"config.input.batch_size={size} must be a multiple of {shards * parts}: "
            f"{shards} chips along data and fsdp times config.optimizer.accumulation="
            f"{parts}"
        )
    step = traces.step(size // shards, remat)
    counts = step.count(mesh)
    plain = traces.step(size // shards, "").count({}) if remat else counts
    exchanges = _exchanges(counts, topology, mesh)
    chip = topology.chip
    return Plan(
        topology=topology.name,
        chips=topology.size,
        hosts=topology.hosts,
        mesh=mesh,
        batch_size=size,
        chip_batch=size // shards,
        accumulation=parts,
        remat=remat,
        parameters=sum(
            math.prod(leaf.shape) for leaf in jax.tree.leaves(step.state.params)
        ),
        memory=_memory(step, counts, mesh, chip.hbm_bytes),
        useful_flops=plain.flops * shards,
        executed_flops=counts.device_flops * topology.size,
        hbm_bytes=counts.hbm_bytes,
        exchanges=exchanges,
        seconds={
            "compute": counts.device_flops / chip.flops,
            "HBM": counts.hbm_bytes / chip.hbm_bandwidth,
            "interconnect": sum(exchange.seconds for exchange in exchanges),
        },
        operations=counts.operations,
        unknown_loops=counts.unknown_loops,
        utilisation=assumed.utilisation,
        training_steps=config.training_steps,
        core_rate=assumed.core_rate,
    )


def _memory(step: Step, counts, mesh: Mapping[str, int], chip: float) -> Memory:
    parameters = device_bytes(step.state.params, mesh)
    return Memory(
        parameters=parameters,
        optimizer=device_bytes(step.state, mesh) - parameters,
        gradients=counts.gradient_bytes,
        activations=counts.peak_bytes - counts.gradient_bytes,
        batch=device_bytes(step.batch, {}),
        chip=chip,
    )


def _exchanges(counts, topology: Topology, mesh: Mapping[str, int]) -> list[Exchange]:
    rings = dict(zip(mesh, topology.rings(list(mesh.values())), strict=True))
    return [
        Exchange(kind, axis, size, number, rings[axis].seconds(kind, size))
        for (kind, axis), (size, number) in sorted(counts.collectives.items())
    ]
