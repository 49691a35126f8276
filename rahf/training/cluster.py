"""What flags and environment say of the processes of a run, without JAX and sockets.

JAX's own detection (jax/_src/clusters) is replaced where it fails without saying what
to do, or leaves GPUs idle: flags and Slurm are read here. Open MPI, TPU pods and
Kubernetes are left to JAX.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping

#: What a launcher says in a process's environment: how many there are, which this is.
_SLURM = ("Slurm", "SLURM_NTASKS", "SLURM_PROCID")
_OPEN_MPI = ("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
#: Present only in tasks that srun started; JAX asks for all of them.
_SLURM_TASK = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
#: Open MPI up to 4; JAX reads the coordinator's address from it.
_OPEN_MPI_URI = "OMPI_MCA_orte_hnp_uri"
FLAGS = "--coordinator_address=HOST:PORT --num_processes=N --process_id=I"


@dataclasses.dataclass(frozen=True)
class Membership:
    """One process's place in a run; None where it was not said.

    Attributes:
      coordinator_address: host:port at which process 0 answers the others.
      num_processes: how many processes the run has.
      process_id: which of them this is, from 0.
      local_device_ids: the accelerators of this machine that the process uses, counted
        among those it sees; None for all.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing remains to be found."""
        named = (self.coordinator_address, self.num_processes, self.process_id)
        return None not in named


def parse_address(address: str) -> tuple[str, int]:
    """Returns (host, port) of "host:port" or "[ipv6]:port".

    Raises:
      ValueError: the text is not of that form.
    """
    host, _, port = address.rpartition(":")
    known = host.startswith("[") == host.endswith("]") and (
        ":" not in host or host.startswith("[")
    )
    if not (host.strip("[]") and known and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(
            f"--coordinator_address={address}: expected HOST:PORT, the machine of "
            "process 0 and a free port of it, such as 10.0.0.1:12345"
        )
    return host.strip("[]"), int(port)


def parse_device_ids(text: str) -> tuple[int, ...]:
    """Returns the numbers of "0,1,2".

    Raises:
      ValueError: they are not numbers from 0 on, or one is named twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ValueError(
            f"--local_device_ids={text}: expected different numbers from 0 on, "
            "separated by commas, such as 0,1,2,3"
        )
    return tuple(int(part) for part in parts)


def count_visible_gpus(environ: Mapping[str, str], on_machine: int) -> int:
    """Returns how many NVIDIA GPUs CUDA shows to this process.

    Args:
      environ: the environment.
      on_machine: how many the machine has.
    """
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return on_machine
    ids = [part.strip() for part in chosen.split(",")]
    bad = [i for i, part in enumerate(ids) if part in ("", "-1", "NoDevFiles")]
    return min([*bad, len(ids)])  # CUDA ignores what follows an invalid one


def resolve(
    given: Membership, environ: Mapping[str, str], gpus: int
) -> tuple[Membership, bool]:
    """Completes what the flags say by the environment, as far as it is known here.

    Args:
      given: what the flags say.
      environ: the environment.
      gpus: the number of NVIDIA GPUs of this machine.

    Returns:
      This process's place, and whether it is complete; if not, JAX must find the rest.

    Raises:
      ValueError: the flags contradict each other or the environment, some are missing,
        or GPUs would be left idle.
    """
    given = _checked(given, environ)
    devices = given.local_device_ids
    visible = count_visible_gpus(environ, gpus)
    if devices is None and environ.get("JAX_LOCAL_DEVICE_IDS"):
        devices = parse_device_ids(environ["JAX_LOCAL_DEVICE_IDS"])
    if devices and visible and max(devices) >= visible:
        raise ValueError(
            f"--local_device_ids={','.join(map(str, devices))}: this process sees "
            f"{visible} GPUs, numbered from 0"
        )
    if devices is None:
        devices = _devices_of_task(environ, visible, gpus)
    if not given.is_complete and _OPEN_MPI_URI not in environ:
        if _OPEN_MPI[1] not in environ and _is_slurm_task(environ):
            given = _of_slurm(environ)
        elif _OPEN_MPI[1] in environ or "SLURM_JOB_ID" in environ:
            raise ValueError(explain_nothing_found(environ))
    return dataclasses.replace(given, local_device_ids=devices), given.is_complete


def _checked(given: Membership, environ: Mapping[str, str]) -> Membership:
    """Returns what the flags say; the address may be in its variable."""
    count, index = given.num_processes, given.process_id
    address = given.coordinator_address
    if address is None and (count is not None or index is not None):
        address = environ.get("JAX_COORDINATOR_ADDRESS")
    values = {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
    }
    missing = [f"--{name}" for name, value in values.items() if value is None]
    if 0 < len(missing) < 3:
        raise ValueError(
            f"{' and '.join(missing)} missing; give all of {FLAGS}, or none of them "
            "where Slurm, Open MPI, Kubernetes or a TPU pod tells them"
        )
    if address is not None:
        parse_address(address)
    if count is not None and index is not None:
        if not 0 <= index < count:
            raise ValueError(
                f"--process_id={index} --num_processes={count}: expected a number from "
                f"0 to {max(count - 1, 0)}, another one for each process"
            )
        _check_launcher(count, index, environ)
    return dataclasses.replace(given, coordinator_address=address)


def _check_launcher(count: int, index: int, environ: Mapping[str, str]) -> None:
    """Raises a ValueError if the flags contradict the launcher of this process."""
    # Open MPI first: under Slurm, it is srun that starts its daemons.
    for launcher, size, rank in [_OPEN_MPI] + [_SLURM] * _is_slurm_task(environ):
        if size not in environ or rank not in environ:
            continue
        told = (int(environ[size]), int(environ[rank]))
        if told != (count, index):
            raise ValueError(
                f"--num_processes={count} --process_id={index}, but {launcher} started "
                f"this as process {told[1]} of {told[0]} ({rank}, {size}); leave out "
                f"the flags, or unset {rank} if {launcher} starts something else here"
            )
        return


def _is_slurm_task(environ: Mapping[str, str]) -> bool:
    return all(name in environ for name in _SLURM_TASK)


def _of_slurm(environ: Mapping[str, str]) -> Membership:
    """Returns a task's place; the address is the one that JAX would choose."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", environ["SLURM_STEP_NODELIST"])
    host = re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0] if first else "localhost")
    port = environ.get("JAX_COORDINATOR_PORT") or str(
        2**16 - 2**12 + int(environ["SLURM_JOB_ID"]) % 2**12
    )
    return Membership(
        environ.get("JAX_COORDINATOR_ADDRESS") or f"{host}:{port}",
        int(environ["SLURM_NTASKS"]),
        int(environ["SLURM_PROCID"]),
    )


def _devices_of_task(
    environ: Mapping[str, str], visible: int, gpus: int
) -> tuple[int, ...] | None:
    """Returns which GPUs a task of Slurm or Open MPI uses, so that none is idle.

    JAX gives each task the one whose number is the task's number on its node. That is
    right for one task per GPU that sees them all, leaves seven of eight idle if a node
    has one task, and fails where Slurm shows each task its own GPU alone.
    """
    if environ.get("OMPI_COMM_WORLD_LOCAL_SIZE"):
        tasks = int(environ["OMPI_COMM_WORLD_LOCAL_SIZE"])
        local = int(environ["OMPI_COMM_WORLD_LOCAL_RANK"])
    elif _is_slurm_task(environ):
        tasks, local = _tasks_on_node(environ), int(environ["SLURM_LOCALID"])
    else:
        return None
    if not visible:  # CPUs, or GPUs of another maker: one each
        return (local,) if tasks > 1 else None
    on_node = environ.get("SLURM_GPUS_ON_NODE", "")
    offered = int(on_node) if on_node.isdecimal() else gpus
    offered = max(offered, visible)
    if visible * tasks == offered:  # each sees its own alone
        return tuple(range(visible))
    if visible == offered and offered % tasks == 0:  # each sees those of all
        share = offered // tasks
        return tuple(range(local * share, (local + 1) * share))
    raise ValueError(
        f"{tasks} tasks on this node, of which this one sees {visible} of {offered} "
        f"GPUs (CUDA_VISIBLE_DEVICES={environ.get('CUDA_VISIBLE_DEVICES', '')}): some "
        f"would be idle or used twice. Start one task per GPU (Slurm: "
        f"--ntasks-per-node={offered} --gpus-per-node={offered}, and nothing that "
        "binds GPUs to tasks), or pass each its own --local_device_ids"
    )


def _tasks_on_node(environ: Mapping[str, str]) -> int:
    """Returns how many tasks of the step run on this node: of "8(x2),4", 8, 8 or 4."""
    text = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ["SLURM_NTASKS"]
    counts: list[int] = []
    for part in text.split(","):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    return counts[int(environ.get("SLURM_NODEID", 0))]


def explain_nothing_found(environ: Mapping[str, str]) -> str:
    """Returns what there is where no others were found, and what to do about it."""
    found = []
    if "SLURM_JOB_ID" in environ:
        found.append(
            f"Slurm job {environ['SLURM_JOB_ID']}, but this process is not a task of "
            "srun; start it by srun, as launch/slurm.sbatch does"
        )
    if "OMPI_COMM_WORLD_SIZE" in environ and _OPEN_MPI_URI not in environ:
        found.append(
            f"Open MPI without {_OPEN_MPI_URI}, which JAX needs; process and number "
            "are in OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE"
        )
    if "TPU_WORKER_HOSTNAMES" in environ or "TPU_PROCESS_ADDRESSES" in environ:
        found.append(
            'a TPU pod, but JAX sees no TPU here; pip install -e ".[tpu]", and ask '
            "for google.com/tpu"
        )
    if "KUBERNETES_SERVICE_HOST" in environ:
        lacks = importlib.util.find_spec("kubernetes") is None
        found.append(
            "a Kubernetes pod"
            + (", but not the package by which JAX asks its cluster" * lacks)
        )
    if "JAX_COORDINATOR_ADDRESS" in environ:
        found.append("JAX_COORDINATOR_ADDRESS alone")
    none = "no variables of srun, Open MPI, a Kubernetes pod or a TPU pod"
    return (
        f"--distributed: found {'; and '.join(found) or none}. Else pass to each "
        f"process {FLAGS}"
    )
