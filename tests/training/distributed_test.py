"""Joining the other processes: those that do not come are told in one line."""

import contextlib
import os
import socket
import threading

import jax
import pytest

from rahf.training import cluster, distributed
from rahf.training.cluster import Membership


@pytest.fixture
def listener():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


@pytest.fixture
def closed():
    """An address at which nothing answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


@pytest.fixture
def initialize(monkeypatch):
    """Records the calls of jax.distributed.initialize, and outside of any cluster."""
    calls: list = []
    monkeypatch.setattr(
        jax.distributed,
        "initialize",
        lambda *args, **named: calls.append((args, named)),
    )
    foreign = ("SLURM_", "JAX_C", "OMPI_", "http", "grpc", "no_")
    for name in [name for name in os.environ if name.startswith(foreign)]:
        monkeypatch.delenv(name)
    return calls


def _address(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_waits_for_the_coordinator(closed):
    place = cluster.parse_address(closed)
    servers = []
    late = threading.Timer(0.2, lambda: servers.append(socket.create_server(place)))
    late.start()
    distributed.wait_for_coordinator(Membership(closed, 2, 1), timeout=60)
    late.join()
    servers[0].close()


def test_a_coordinator_that_does_not_answer(closed, initialize):
    message = rf"process 1 of 2: no coordinator .* {closed} within 0.01 s \(.*refused\)"
    with pytest.raises(OSError, match=message):
        distributed.join(Membership(closed, 2, 1), timeout=0.01)
    assert not initialize


def test_a_port_in_use(listener, initialize):
    address = _address(listener)
    with pytest.raises(
        OSError, match=rf"process 0 cannot answer at {address}: .* in use"
    ):
        distributed.join(Membership(address, 2, 0))
    assert not initialize


def test_what_jax_is_told(closed, listener, initialize):
    distributed.join(Membership(closed, 2, 0, (0, 2)))
    distributed.join(Membership(_address(listener), 3, 1))
    distributed.join(Membership())
    (first, named), (second, _), (third, alone) = initialize
    assert first == (closed, 2, 0, [0, 2])
    assert second == (_address(listener), 3, 1, None)
    assert third == (None, None, None, None)
    # Flags win over whatever cluster this is; JAX aborts after the line is written.
    assert named["cluster_detection_method"] == "deactivate"
    assert alone["cluster_detection_method"] is None
    assert named["initialization_timeout"] > distributed.DEFAULT_TIMEOUT


def test_the_coordinator_is_not_asked_through_a_proxy(closed, monkeypatch, initialize):
    monkeypatch.setenv("no_grpc_proxy", "")
    distributed.join(Membership(closed, 1, 0))
    assert not os.environ["no_grpc_proxy"]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "a.b")
    distributed.join(Membership(closed, 1, 0))
    assert os.environ["no_grpc_proxy"] == "a.b,127.0.0.1"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("coordinator_address should be defined."), "found no variables"),
        (RuntimeError("Kubernetes API Error:\n403"), "RuntimeError: .* Error: 403"),
    ],
)
def test_jax_finds_nothing(error, message, closed, monkeypatch, initialize):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ValueError, match=message) as raised:
        distributed.join(Membership())
    assert "\n" not in str(raised.value)
    # What flags say needs no cluster; another process may have died meanwhile.
    with pytest.raises(OSError, match=r"process 0 of 2, .* could not join .*Error: "):
        distributed.join(Membership(closed, 2, 0))


def test_leaves_before_jax_aborts(closed, monkeypatch, initialize):
    given_up, told = threading.Event(), []

    def leave(message):
        told.append(message)
        given_up.set()

    monkeypatch.setattr(distributed, "_leave", leave)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: given_up.wait())
    distributed.join(Membership(closed, 2, 0), timeout=0.01)
    [line] = told
    assert f"process 0 of 2, whose coordinator is {closed}, waited 0.01 s" in line
    assert "--coordinator_timeout" in line


def test_does_not_leave_once_all_have_met(closed, monkeypatch, initialize):
    timers = []
    monkeypatch.setattr(
        threading.Timer, "start", lambda timer: timers.append(timer), raising=True
    )
    distributed.join(Membership(closed, 1, 0))
    assert [timer.finished.is_set() for timer in timers] == [True]
