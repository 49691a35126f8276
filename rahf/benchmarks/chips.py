"""What a chip can do, as its maker states it, and how a slice or node joins chips."""

import dataclasses
import math
from collections.abc import Sequence

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Chip:
    """The stated peaks of one chip.

    Attributes:
      name: as in `--topology`.
      flops: dense bfloat16 FLOP/s.
      hbm_bytes: size of its memory.
      hbm_bandwidth: bytes/s of its memory, reading and writing together.
      link_bandwidth: bytes/s that one link to a neighbour sends, one way. A GPU has one
        "link", to its node's switch.
      network_bandwidth: bytes/s that it sends to another slice or node, its share of
        the host's network cards; 0 where slices are not joined.
      dimensions: axes of the torus; 0 for GPUs, which meet at a switch.
      wrap: an axis is a ring, not a line, where its length is a multiple of this.
      host_chips: chips of one host.
      largest: chips of the largest slice; 0 for GPUs.
    """

    name: str
    flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    dimensions: int
    wrap: int
    host_chips: int
    largest: int

    @property
    def is_tpu(self) -> bool:
        return self.dimensions > 0


# TPUs: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}. Its interconnect figures are of all
# links: v5e 400 GB/s and v6e 800 GB/s of 4 links and v5p 1,200 GB/s of 6, both ways; so
# 50, 100 and 100 GB/s a link, one way. Of v4 it states none; Jouppi et al., "TPU v4: An
# Optically Reconfigurable Supercomputer" (2023), table 4: 6 links of 50 GB/s. Network of
# a chip: v5e 6.4 Tbps and v6e 25.6 Tbps a pod of 256, v5p 50 Gbps a chip. Hosts of v5e
# and v6e in slices of more than 8 chips are virtual machines of 4. An axis is a ring in
# v4 and v5p where it is a multiple of 4 ("3D mesh and 3D torus"), in v5e and v6e only
# where it spans the pod, 16.
# GPUs: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200 SXM, dense figures
# (half of those "with sparsity"); NVLink 600 and 900 GB/s both ways; DGX A100, H100 and
# H200 have a card of 200 or 400 Gb/s for each GPU.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 1200e9, 50e9, 0, 3, 4, 4, 4096),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 50e9, 3.125e9, 2, 16, 4, 256),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 100e9, 6.25e9, 3, 4, 4, 6144),
        Chip("v6e", 918e12, 32 * GIB, 1640e9, 100e9, 12.5e9, 2, 16, 4, 256),
        Chip("a100", 312e12, 80 * GIB, 2039e9, 300e9, 25e9, 0, 1, 8, 0),
        Chip("h100", 989e12, 80 * GIB, 3350e9, 450e9, 50e9, 0, 1, 8, 0),
        Chip("h200", 989e12, 141 * GIB, 4800e9, 450e9, 50e9, 0, 1, 8, 0),
    )
}


@dataclasses.dataclass(frozen=True)
class Ring:
    """How the chips along one axis of the device mesh are joined.

    Attributes:
      inside, inside_bandwidth: chips within a slice or node, and the bytes/s that each
        sends to the others.
      outside, outside_bandwidth: slices or nodes that the axis spans, and the bytes/s
        that each chip sends to another.
    """

    inside: int
    inside_bandwidth: float
    outside: int
    outside_bandwidth: float

    def seconds(self, kind: str, size: float) -> float:
        """Returns how long a collective takes when every link is busy all the time.

        A ring sends (n - 1) / n of the bytes past each chip to gather or to
        reduce-scatter, and does both to all-reduce. Over several slices the chips of
        each first reduce among themselves, so that each has 1 / inside of the bytes to
        exchange with the other slices.

        Args:
          kind: "all-gather", "reduce-scatter" or "all-reduce".
          size: bytes of the whole array, gathered or not yet scattered.
        """
        times = 2 if kind == "all-reduce" else 1
        part = lambda n, size, rate: (n - 1) / n * size / rate if n > 1 else 0.0
        return times * (
            part(self.inside, size, self.inside_bandwidth)
            + part(self.outside, size / self.inside, self.outside_bandwidth)
        )


@dataclasses.dataclass(frozen=True)
class Topology:
    """A TPU slice, several of them, or GPU nodes.

    Attributes:
      chip: the kind of chip.
      shape: chips along each axis of the torus; of GPUs, those of a node.
      slices: slices, or nodes.
    """

    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.slices

    @property
    def hosts(self) -> int:
        return -(-self.size // self.chip.host_chips)

    @property
    def name(self) -> str:
        outer = (self.slices,) if self.slices > 1 else ()
        return f"{self.chip.name}:{'x'.join(map(str, (*outer, *self.shape)))}"

    def rings(self, mesh: Sequence[int]) -> list[Ring]:
        """Returns how the chips along each mesh axis are joined.

        The last axis of the mesh takes neighbours: the end of the torus's last axis,
        then more. XLA may place them better.

        Args:
          mesh: devices along each mesh axis; their product is `size`.
        """
        free, rings = list(self.shape), []
        for members in reversed(mesh):
            inside, links = 1, 0
            for axis in reversed(range(len(free))):
                piece = math.gcd(free[axis], members // inside)
                if piece == 1:
                    continue
                inside, free[axis] = inside * piece, free[axis] // piece
                whole = piece == self.shape[axis]
                links += 2 if whole and piece % self.chip.wrap == 0 else 1
            rate = self.chip.link_bandwidth * (links if self.chip.is_tpu else 1)
            outside = members // inside
            rings.append(Ring(inside, rate, outside, self.chip.network_bandwidth))
        return rings[::-1]


def parse_topology(text: str) -> Topology:
    """Returns the chips that `--topology` names.

    Args:
      text: "v5e:4x8", a slice; "v5e:4x16x16", 4 slices of 16x16; "v4:4x4x4";
        "h100:8", a node; "h200:2x8", two nodes.

    Raises:
      ValueError: the chip is unknown, or it does not come in this shape.
    """
    name, _, shape = text.partition(":")
    if name not in CHIPS:
        raise ValueError(
            f"--topology={text}: chip {name!r} is unknown; known: {', '.join(CHIPS)}"
        )
    chip = CHIPS[name]
    example = "4x8" if chip.dimensions == 2 else "4x4x4" if chip.is_tpu else "2x8"
    parts = shape.split("x")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(
            f"--topology={text}: expected chip:shape, as in {name}:{example}"
        )
    sizes = tuple(map(int, parts))
    inner = chip.dimensions or 1
    if len(sizes) not in (inner, inner + 1):
        raise ValueError(
            f"--topology={text}: {name} comes in {inner} dimensions, as in "
            f"{name}:{example}; one more in front is the number of "
            f"{'slices' if chip.is_tpu else 'nodes'}"
        )
    topology = Topology(chip, sizes[-inner:], math.prod(sizes[:-inner]))
    _check(topology, text)
    return topology


def _check(topology: Topology, text: str) -> None:
    chip, chips = topology.chip, math.prod(topology.shape)
    if chip.largest and chips > chip.largest:
        raise ValueError(
            f"--topology={text}: a slice of {chip.name} has at most {chip.largest} "
            f"chips, not {chips}; put the number of slices in front, as in "
            f"{chip.name}:4x{'x'.join(['16'] * chip.dimensions)}"
        )
    if not chip.is_tpu and chips > chip.host_chips:
        raise ValueError(
            f"--topology={text}: a node has {chip.host_chips} GPUs at most; for more "
            f"put the number of nodes in front, as in {chip.name}:2x{chip.host_chips}"
        )
    if topology.slices > 1 and not chip.network_bandwidth:
        raise ValueError(
            f"--topology={text}: the network between slices of {chip.name} is not "
            f"known; use one slice, of up to {chip.largest} chips"
        )
