"""The flags by which the processes of a run find each other (docs/scale.md).

JAX is imported only by `join`, so that `--help` is fast.
"""

import sys

from absl import flags

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    None,
    "Whether this is one of several processes of a run. Slurm (srun), Open MPI, "
    "Kubernetes and TPU pods tell which; elsewhere pass the next three flags.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT at which process 0 answers the others: its machine, and a free port.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes the run has."
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_LOCAL_DEVICE_IDS = flags.DEFINE_string(
    "local_device_ids",
    None,
    "The GPUs that this process uses, among those it sees, such as 0,1; else all, or "
    "its share of those that the tasks of a node see.",
)
_COORDINATOR_TIMEOUT = flags.DEFINE_integer(
    "coordinator_timeout",
    300,
    "Seconds to wait for the other processes.",
    lower_bound=1,
)


def join() -> None:
    """Joins the other processes, if a flag says that there are any."""
    from rahf.training import cluster, distributed

    text = _LOCAL_DEVICE_IDS.value
    given = cluster.Membership(
        _COORDINATOR_ADDRESS.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        None if text is None else cluster.parse_device_ids(text),
    )
    if _DISTRIBUTED.value is False and given != cluster.Membership():
        raise ValueError("--nodistributed contradicts the flags of several processes")
    if not _DISTRIBUTED.value and given == cluster.Membership():
        return
    try:
        distributed.join(given, _COORDINATOR_TIMEOUT.value)
    except OSError as error:
        sys.exit(f"error: {error}")
