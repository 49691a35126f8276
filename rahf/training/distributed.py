"""A process joins the others of its run, or says in one line why it could not.

JAX itself ends a process that waited in vain with an abort and a stack of C++ calls,
and one whose port is in use with a segmentation fault.
"""

import contextlib
import glob
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator

from rahf.training import cluster
from rahf.training.cluster import Membership

#: What JAX waits, too: nodes of a cluster start up to minutes apart.
DEFAULT_TIMEOUT = 300


def join(given: Membership, timeout: float = DEFAULT_TIMEOUT) -> None:
    """Joins the other processes; must come before JAX touches a device.

    Args:
      given: what the flags say.
      timeout: how many seconds to wait for the others.

    Raises:
      ValueError: the flags are wrong, or the others are not found.
      OSError: the port is in use, or the coordinator does not answer.
    """
    end = time.monotonic() + timeout
    gpus = len(glob.glob("/dev/nvidia[0-9]*"))
    mine, is_complete = cluster.resolve(given, os.environ, gpus)
    if is_complete:
        if mine.process_id == 0:
            check_port(mine)
        else:
            wait_for_coordinator(mine, timeout)
    left = max(end - time.monotonic(), 1)
    with _abandoned_after(left, _did_not_meet(mine, timeout)), _killed_by_ctrl_c():
        _initialize(mine, is_complete, left)


def _initialize(mine: Membership, is_complete: bool, seconds: float) -> None:
    import jax

    # It would take SIGTERM, by which clusters and people ask a run to stop.
    jax.config.update("jax_enable_preemption_service", False)
    if is_complete and _bypass_proxy(mine):
        jax.config.update("jax_check_proxy_envs", False)  # would warn of a hang
    try:
        with warnings.catch_warnings():
            # Kubernetes without its package, told below.
            warnings.filterwarnings("ignore", message=r"\s*Kubernetes environment")
            jax.distributed.initialize(
                mine.coordinator_address,
                mine.num_processes,
                mine.process_id,
                None if mine.local_device_ids is None else list(mine.local_device_ids),
                cluster_detection_method="deactivate" if is_complete else None,
                initialization_timeout=int(seconds) + 60,  # abandoned before
            )
    except Exception as error:
        raise _in_one_line(error, mine) from error


def _in_one_line(error: Exception, mine: Membership) -> Exception:
    """Returns what to raise for an error of JAX's."""
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if mine.is_complete:
        return OSError(f"{_name(mine)} could not join the others ({why})")
    if isinstance(error, ValueError):
        return ValueError(cluster.explain_nothing_found(os.environ))
    return ValueError(
        f"--distributed: JAX could not ask the cluster for the other processes "
        f"({why}); without its help, pass to each {cluster.FLAGS}"
    )


def _bypass_proxy(mine: Membership) -> bool:
    """Keeps JAX from asking the proxy of a cluster for the coordinator, in vain.

    Returns:
      Whether the environment names a proxy.
    """
    named = ("grpc_proxy", "https_proxy", "http_proxy")  # those that gRPC reads
    if not any(os.environ.get(name) for name in named):
        return False
    host, _ = cluster.parse_address(mine.coordinator_address or "")
    direct = os.environ.get("no_grpc_proxy") or os.environ.get("no_proxy")
    os.environ["no_grpc_proxy"] = f"{direct},{host}" if direct else host
    return True


def check_port(mine: Membership) -> None:
    """Raises an OSError if process 0 cannot answer at its port."""
    _, port = cluster.parse_address(mine.coordinator_address or "")
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        raise OSError(
            f"process 0 cannot answer at {mine.coordinator_address}: port {port}: "
            f"{error.strerror}; choose another (--coordinator_address, or "
            "JAX_COORDINATOR_PORT for all processes)"
        ) from error


def wait_for_coordinator(mine: Membership, timeout: float) -> None:
    """Returns once process 0 accepts connections.

    Raises:
      OSError: it did not within `timeout` seconds.
    """
    place = cluster.parse_address(mine.coordinator_address or "")
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(place, timeout=min(timeout, 10)).close()
            return
        except OSError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise OSError(
                    f"process {mine.process_id} of {mine.num_processes}: no "
                    f"coordinator answered at {mine.coordinator_address} within "
                    f"{timeout:g} s ({error.strerror or error}); is process 0 running, "
                    "on that machine, and may others reach the port? --coordinator_timeout "
                    "sets how long to wait"
                ) from error
            time.sleep(min(left, 1))


def _name(mine: Membership) -> str:
    if not mine.is_complete:
        return "this process"
    return (
        f"process {mine.process_id} of {mine.num_processes}, whose coordinator is "
        f"{mine.coordinator_address},"
    )


def _did_not_meet(mine: Membership, timeout: float) -> str:
    return (
        f"{_name(mine)} waited {timeout:g} s for the others, which did not all come; "
        "does each one run, with the same flags? --coordinator_timeout sets how long "
        "to wait"
    )


@contextlib.contextmanager
def _abandoned_after(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with one line if the block takes longer, before JAX aborts."""
    timer = threading.Timer(seconds, lambda: _leave(message))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _leave(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)  # the main thread waits in C++ and cannot be interrupted


@contextlib.contextmanager
def _killed_by_ctrl_c() -> Iterator[None]:
    """Lets Ctrl-C end the process also while JAX waits, where Python does not look."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
