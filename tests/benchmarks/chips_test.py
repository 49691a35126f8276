"""Topologies by name, and rings by hand."""

import pytest

from rahf.benchmarks.chips import CHIPS, Ring, parse_topology


@pytest.mark.parametrize(
    ("text", "size", "hosts", "slices"),
    [
        ("v5e:4x8", 32, 8, 1),
        ("v5e:4x16x16", 1024, 256, 4),
        ("v4:4x4x4", 64, 16, 1),
        ("v5p:8x8x16", 1024, 256, 1),
        ("v6e:2x2", 4, 1, 1),
        ("h100:8", 8, 1, 1),
        ("h200:2x8", 16, 2, 2),
    ],
)
def test_names(text, size, hosts, slices):
    topology = parse_topology(text)
    assert (topology.size, topology.hosts, topology.slices) == (size, hosts, slices)
    assert topology.name == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v7:4x8", "chip 'v7' is unknown; known: v4, v5e, v5p, v6e, a100"),
        ("v5e", "expected chip:shape, as in v5e:4x8"),
        ("v5e:4x0", "expected chip:shape, as in v5e:4x8"),
        ("v5e:4xx", "expected chip:shape, as in v5e:4x8"),
        ("v4:4x4", "v4 comes in 3 dimensions, as in v4:4x4x4; one more in front is"),
        ("v5e:32x32", "at most 256 chips, not 1024; put the number of slices in front"),
        ("v4:2x4x4x4", "the network between slices of v4 is not known"),
        ("h100:16", "a node has 8 GPUs at most; .* as in h100:2x8"),
        ("h100:2x2x8", "h100 comes in 1 dimensions, .* the number of nodes"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(ValueError, match=f"^--topology={text}: .*{message}"):
        parse_topology(text)


def test_a_ring_by_hand():
    ring = Ring(4, 100.0, 1, 0)
    assert ring.seconds("all-gather", 800) == 6  # three quarters of it pass each chip
    assert ring.seconds("reduce-scatter", 800) == 6
    assert ring.seconds("all-reduce", 800) == 12
    # Between two nodes, each chip exchanges half of its quarter.
    assert Ring(4, 100.0, 2, 10.0).seconds("all-gather", 800) == 6 + 10
    assert Ring(1, 100.0, 1, 0).seconds("all-reduce", 800) == 0


def test_mesh_axes_take_neighbours_first():
    link = CHIPS["v5e"].link_bandwidth
    data, fsdp, model = parse_topology("v5e:4x8").rings([8, 1, 4])
    assert (data.inside, data.inside_bandwidth) == (8, 2 * link)  # a line on each axis
    assert (model.inside, model.inside_bandwidth) == (4, link)
    assert fsdp.inside == fsdp.outside == 1
    [whole] = parse_topology("v5e:16x16").rings([256])  # a pod: rings, both ways
    assert (whole.inside, whole.inside_bandwidth) == (256, 4 * link)
    [several] = parse_topology("v5e:4x16x16").rings([1024])
    assert (several.inside, several.outside) == (256, 4)
    data, model = parse_topology("h200:2x8").rings([4, 4])
    assert (data.inside, data.outside) == (2, 2)
    assert (model.inside, model.inside_bandwidth) == (4, CHIPS["h200"].link_bandwidth)
