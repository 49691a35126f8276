"""The compiler in its own process: records, progress, and what it says of memory."""

import io
import json
import multiprocessing
import threading

import jax
import pytest

from rahf.benchmarks import ahead_of_time
from rahf.benchmarks.ahead_of_time import Records
from rahf.benchmarks.chips import parse_topology
from rahf.benchmarks.plan import make_plan
from tests.support import tiny


def test_records_say_how_long_it_may_take(tmp_path):
    records = Records(tmp_path / "cache" / "times.json")
    guess = ahead_of_time.SECONDS_PER_OPERATION * 1000
    assert records.expected(1000, "v5e:2x2") == f"about {guess:.0f} s expected"
    records.add(1000, "v5e:2x2", 50.0)
    assert records.expected(1000, "v5e:2x2") == "took 50 s last time"
    assert records.expected(2000, "v5e:2x2") == "about 100 s expected"
    assert records.expected(1000, "v5e:4x4") == "about 50 s expected"
    for _ in range(60):
        records.add(1000, "v5e:2x2", 40.0)
    kept = json.loads((tmp_path / "cache" / "times.json").read_text("utf-8"))
    assert len(kept) == 50


def test_a_record_that_is_not_ours_is_no_error(tmp_path):
    (path := tmp_path / "times.json").write_text('["x", 3')
    assert "expected" in Records(path).expected(10, "v5e:2x2")
    (tmp_path / "file").write_text("")
    Records(tmp_path / "file" / "times.json").add(1, "v5e:2x2", 1.0)


def test_it_says_that_it_goes_on(monkeypatch):
    monkeypatch.setattr(ahead_of_time, "_EVERY", 0.01)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    out = io.StringIO()
    timer = threading.Timer(0.3, sender.send, ["done"])
    timer.start()
    ahead_of_time._watch(receiver, "took 9 s last time", out)
    assert receiver.recv() == "done"
    lines = out.getvalue().splitlines()
    assert len(lines) >= 2 and set(lines) == {"compiling: 0 s, took 9 s last time"}


def test_how_much_was_wanted_of_a_chip_that_is_too_small():
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.51G"
    needed = ahead_of_time._exhausted(f"{message} of 15.75G hbm. Exceeded by 4.76G.")
    assert needed == 20.51 * 2**30
    assert ahead_of_time._exhausted("INTERNAL: something else") is None


def test_no_such_slice():
    with pytest.raises(
        ValueError, match=r"--topology=v5e:3x7: .*expected a slice such"
    ):
        ahead_of_time.tpu_devices("v5e:3x7")


def test_gradients_are_exchanged_as_the_plan_says():
    config = tiny.config()
    config.sharding.mesh.update(data=2, fsdp=4)
    compiled = ahead_of_time.compile_step(config, jax.devices())
    plan = make_plan(config, parse_topology("v5e:2x4"))
    # Gradients are summed; parameters have to be gathered where they are cut.
    assert {"all-reduce", "all-gather"} <= set(compiled.collectives)
    assert {e.kind for e in plan.exchanges} >= {"all-reduce", "all-gather"}
    state = plan.memory.parameters + plan.memory.optimizer + plan.memory.batch
    assert compiled.temporary_bytes
    held = compiled.needed_bytes - compiled.temporary_bytes
    assert held == pytest.approx(state, rel=0.03)
