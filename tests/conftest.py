"""Eight CPU devices, so that sharding is tested on any machine; compiling once."""

import gc
import os
import resource
import shutil
import sys
import tempfile

import pytest

from tests.support.quick_xla import QUICK

os.environ["JAX_PLATFORMS"] = "cpu"
# The last of two flags counts, so that
# XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_max_isa=AVX2" tests what that
# processor would do.
os.environ["XLA_FLAGS"] = (
    f"{QUICK} {os.environ.get('XLA_FLAGS', '')} "
    "--xla_force_host_platform_device_count=8"
)
# Tests compile the same small models again and again, in several processes: what one
# has compiled the others read. The folder is this run's own, so that no test passes
# by what an earlier version of the code left there.
_OWN_CACHE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _OWN_CACHE:  # the workers inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="rahf-tests-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

#: Process -> its largest resident size and that of its subprocesses, in bytes.
_PEAKS: dict[str, tuple[int, int]] = {}


def _peaks() -> tuple[int, int]:
    unit = 1 if sys.platform == "darwin" else 1024
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, children = (unit * resource.getrusage(who).ru_maxrss for who in whose)
    return own, children


def pytest_collection_finish(session):
    """Spares the tests what takes long and shows nothing."""
    _save_from_one_device()
    # Tracing makes many small objects, and whenever there were some more, a quarter of
    # its time, Python would look for garbage among the half million of the modules.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _save_from_one_device():
    """Lets Orbax save an array that is on all devices from one of them.

    It would save an eighth from each, and compile every slice: 20 seconds for a model.
    Two processes still save so (tests/training/processes_test.py).
    """
    if orbax := sys.modules.get("orbax.checkpoint"):
        jax = sys.modules["jax"]
        orbax.type_handlers.get_type_handler(jax.Array)._use_replica_parallel = False


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peaks"] = _peaks()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    output = getattr(node, "workeroutput", None)  # None of a worker that crashed
    if output and "peaks" in output:
        _PEAKS[node.gateway.id] = tuple(output["peaks"])


def pytest_terminal_summary(terminalreporter):
    for name, peaks in sorted((_PEAKS or {"this process": _peaks()}).items()):
        own, child = (f"{peak / 2**30:.1f} GiB" for peak in peaks)
        terminalreporter.write_line(
            f"peak memory of {name}: {own}, of its largest subprocess: {child}"
        )


def pytest_unconfigure():
    if _OWN_CACHE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
