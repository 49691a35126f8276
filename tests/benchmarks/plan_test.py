"""Plans of a tiny model: memory and operations by hand, layouts, the command's text."""

import json

import pytest

from rahf.benchmarks import layouts, plan_text, planning
from rahf.benchmarks.ahead_of_time import Compiled
from rahf.benchmarks.chips import GIB, parse_topology
from rahf.benchmarks.plan import Assumptions, make_plan, mesh_of, verdict
from rahf.benchmarks.traces import Traces
from tests.support import tiny

SLICE = parse_topology("v5e:2x4")


@pytest.fixture(scope="module")
def config():
    return tiny.config()


@pytest.fixture(scope="module")
def traces(config):
    return Traces(config)


@pytest.fixture(autouse=True)
def _traced_once(config, traces, monkeypatch):
    """Whoever asks for traces of the very same config finds those of the others."""
    same = config.to_json_best_effort()

    def find(asked):
        return traces if asked.to_json_best_effort() == same else Traces(asked)

    for module in ("plan", "layouts"):
        monkeypatch.setattr(f"rahf.benchmarks.{module}.Traces", find)


@pytest.fixture(scope="module")
def plan(config, traces):
    return make_plan(config, SLICE, traces=traces)


def test_memory_of_the_state(config, traces, plan):
    parameters = 4 * plan.parameters
    assert plan.memory.parameters == parameters
    assert plan.memory.optimizer == pytest.approx(2 * parameters, rel=1e-3)  # AdamW
    # The table of words has two gradients, of its two uses, before they are added.
    assert 0.9 * parameters < plan.memory.gradients < 1.5 * parameters
    image = 32 * 32 * (3 + 2 * 4)  # and two heatmaps
    assert plan.memory.batch == pytest.approx(image, rel=0.15)
    assert plan.memory.total < GIB < plan.memory.chip == 16 * GIB
    mesh = {"data": 1, "fsdp": 8, "model": 1}
    split = make_plan(config, SLICE, mesh=mesh, traces=traces)
    # Much of so small a model are convolutions and the like, which stay whole.
    assert split.memory.parameters < 0.7 * parameters
    assert split.memory.gradients < 0.8 * plan.memory.gradients
    assert split.memory.batch == plan.memory.batch


def test_time(plan):
    assert plan.mesh == {"data": 8, "fsdp": 1, "model": 1}
    [exchange] = plan.exchanges
    assert (exchange.kind, exchange.axis) == ("all-reduce", "data")
    assert exchange.bytes == pytest.approx(4 * plan.parameters, rel=0.15)
    # Eight chips, a line of two and one of four: two links of 50 GB/s.
    assert exchange.seconds == pytest.approx(2 * 7 / 8 * exchange.bytes / 100e9)
    assert plan.seconds["compute"] == plan.executed_flops / (8 * 197e12)
    assert plan.seconds["HBM"] == plan.hbm_bytes / 819e9
    assert plan.bound == max(plan.seconds.values()) == plan.seconds[plan.binding]
    hours = plan.training_steps * plan.step_seconds * 8 / 3600
    assert plan.chip_hours == pytest.approx(hours)
    assert plan.cores == pytest.approx(8 / plan.step_seconds / 93)


def test_remat_is_executed_but_not_useful(config, traces, plan):
    again = make_plan(config, SLICE, remat="full", traces=traces)
    assert plan.useful_flops == plan.executed_flops == again.useful_flops
    assert 1.05 < again.executed_flops / again.useful_flops < 1.34
    dots = make_plan(config, SLICE, remat="dots", traces=traces)
    assert dots.useful_flops == plan.useful_flops  # keeps products, but attention's
    assert plan.executed_flops < dots.executed_flops < again.executed_flops
    assert again.peak_utilisation < again.executed_flops / again.useful_flops


def test_a_batch_in_parts_is_the_same_work(config, traces, plan):
    config = config.copy_and_resolve_references()
    config.input.batch_size = 32
    whole = make_plan(config, SLICE, traces=traces)
    config.optimizer.accumulation = 4
    parts = make_plan(config, SLICE)
    assert parts.useful_flops == whole.useful_flops == 4 * plan.useful_flops
    assert parts.memory.activations < whole.memory.activations
    [exchange] = parts.exchanges  # gradients are added after each part
    assert exchange.bytes == pytest.approx(4 * whole.exchanges[0].bytes, rel=0.01)


def test_slower_than_its_bound(config, traces, plan):
    slow = Assumptions(utilisation=1e-9, core_rate=10)
    found = make_plan(config, SLICE, traces=traces, assumed=slow)
    compute = found.useful_flops / (8 * 197e12)
    assert found.step_seconds == pytest.approx(compute / 1e-9)
    assert found.cores == pytest.approx(8 / found.step_seconds / 10)


def test_verdicts():
    assert (
        verdict(5.6 * GIB, 16 * GIB) == "fits: 5.6 of 16 GiB a chip, 10.4 GiB to spare"
    )
    short = "does not fit: 20.5 of 16 GiB a chip, short by 4.5 GiB"
    assert verdict(20.5 * GIB, 16 * GIB) == short


def test_layouts_are_valid_and_ranked(config):
    meshes = list(layouts.meshes(config, SLICE))
    assert {"data": 8, "fsdp": 1, "model": 1} in meshes
    assert {"data": 1, "fsdp": 4, "model": 2} in meshes
    for mesh in meshes:
        assert mesh["data"] * mesh["fsdp"] * mesh["model"] == 8
        assert mesh["model"] in (1, 2)  # the image encoder has two heads
    plans = layouts.compare(config, parse_topology("v5e:1x2"))
    assert len(plans) == 9  # three meshes; no remat, all, and all but products
    assert plans[0].bound <= 1.03 * min(plan.bound for plan in plans)
    assert plans[0].remat == ""  # nothing is gained by repeating
    assert "recommended: --config.sharding.mesh.data=" in layouts.reason(plans)
    table = plan_text.comparison(plans, rows=4)
    assert len(table.splitlines()) == 1 + 4 + 1 and "and 5 more" in table
    config = config.copy_and_resolve_references()
    config.input.batch_size = 7
    with pytest.raises(ValueError, match="batch_size=7 divides among no layout"):
        layouts.compare(config, SLICE)


def test_the_largest_batch_that_fits(config):
    found = layouts.largest_batch(config, SLICE)
    assert 0.97 * found.memory.chip < found.memory.total <= found.memory.chip
    assert found.batch_size % 8 == 0 and found.batch_size > 1000


def test_mistakes(config):
    config = config.copy_and_resolve_references()
    config.sharding.mesh.fsdp = 3
    with pytest.raises(ValueError, match=r"uses 6 chips, but v5e:2x4 has 8"):
        mesh_of(config, SLICE)
    config.sharding.mesh.fsdp = 1
    config.input.batch_size = 12
    with pytest.raises(ValueError, match="batch_size=12 must be a multiple of 8"):
        make_plan(config, SLICE)
    for request, message in (
        (planning.Request("h100:8"), "h100:8 can be counted but not .* add --analytic"),
        (planning.Request("v5e:2x16x16"), "takes one TPU slice; add --analytic"),
        (planning.Request("v5e:2x4", utilisation=2), "--utilisation=2 must be in"),
        (
            planning.Request("v5e:2x4", compare=True, largest_batch=True),
            "exclude each other",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            planning.run(config, request)


def test_gpus_are_counted(config, tmp_path, capsys):
    output = tmp_path / "plan.json"
    planning.run(config, planning.Request("h100:8", analytic=True, json=str(output)))
    printed = capsys.readouterr().out
    assert "h100:8: 8 chips, 1 hosts, data 8 x fsdp 1 x model 1; batch 8" in printed
    assert "by estimate, fits: 0.0 of 80 GiB" in printed and "<- binds" in printed
    found = json.loads(output.read_text("utf-8"))
    assert found["compiled"] is None
    [plan] = found["plans"]
    assert plan["binding"] in plan["seconds"] and plan["memory"]["chip"] == 80 * GIB


def test_what_the_compiler_says(plan):
    temporary = 2 * (plan.memory.gradients + plan.memory.activations)
    collectives = {"all-reduce": (9, 2_500_000_000)}
    text = plan_text.compiled_text(
        Compiled(5.6 * GIB, temporary, 1.0, collectives, 75.2), plan
    )
    assert text.splitlines() == [
        "compiled in 75 s: fits: 5.6 of 16 GiB a chip, 10.4 GiB to spare",
        f"  gradients and activations: {temporary / GIB:.2f} GiB; the estimate was -50%",
        "  all-reduce: 9 a step, 2.50 GB",
    ]
