"""What flags and environment say of the processes of a run."""

import dataclasses

import pytest

from rahf.training import cluster
from rahf.training.cluster import Membership

NOTHING = Membership()
GIVEN = Membership("10.0.0.1:1234", 4, 3)
TASK = {
    "SLURM_JOB_ID": "4099",
    "SLURM_STEP_NODELIST": "node[07-09,12],other",
    "SLURM_NTASKS": "12",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),2(x2)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
URI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}


def test_flags_say_all():
    assert cluster.resolve(GIVEN, {}, gpus=8) == (GIVEN, True)
    rest = dataclasses.replace(GIVEN, coordinator_address=None)
    told = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234", "JAX_LOCAL_DEVICE_IDS": "2,5"}
    found, complete = cluster.resolve(rest, told, gpus=8)
    assert complete and found == dataclasses.replace(GIVEN, local_device_ids=(2, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"process_id": 4}, "--process_id=4 --num_processes=4: expected .* 0 to 3"),
        ({"process_id": -1}, "--process_id=-1"),
        ({"num_processes": 0, "process_id": 0}, "--num_processes=0"),
        ({"num_processes": None}, "--num_processes missing; give all of"),
        ({"coordinator_address": None}, "--coordinator_address missing"),
        (
            {"coordinator_address": None, "num_processes": None},
            "--coordinator_address and --num_processes missing",
        ),
        ({"coordinator_address": "host"}, "=host: expected HOST:PORT"),
        ({"local_device_ids": (1, 8)}, "=1,8: this process sees 8 GPUs"),
    ],
)
def test_flags_that_contradict_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        cluster.resolve(dataclasses.replace(GIVEN, **changes), {}, gpus=8)


@pytest.mark.parametrize(
    "text",
    ["", "host", ":1", "host:", "host:0", "host:65536", "host:x", "::1:1", "[:1"],
)
def test_addresses_that_are_none(text):
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        cluster.parse_address(text)


def test_addresses():
    assert cluster.parse_address("a.b:65535") == ("a.b", 65535)
    assert cluster.parse_address("[::1]:80") == ("::1", 80)


@pytest.mark.parametrize("text", ["", "a", "0,,1", "-1", "0,0", "0-3"])
def test_device_ids_that_are_none(text):
    with pytest.raises(ValueError, match="expected different numbers from 0 on"):
        cluster.parse_device_ids(text)


def test_device_ids():
    assert cluster.parse_device_ids("3, 0") == (3, 0)


def test_a_task_of_slurm():
    found, complete = cluster.resolve(NOTHING, TASK, gpus=0)
    assert complete
    # As JAX: the first node, and a port made of the job's number.
    assert found == Membership("node07:61443", 12, 9, (1,))
    for nodes, first in (("a", "a"), ("a,b[1-2]", "a"), ("r[1-2]n[3-4]-ib", "r1n3-ib")):
        found, _ = cluster.resolve(NOTHING, TASK | {"SLURM_STEP_NODELIST": nodes}, 0)
        assert found.coordinator_address == f"{first}:61443"
    found, _ = cluster.resolve(NOTHING, TASK | {"JAX_COORDINATOR_PORT": "99"}, 0)
    assert found.coordinator_address == "node07:99"


def test_the_address_is_the_one_that_jax_would_choose(monkeypatch):
    from jax._src.clusters import SlurmCluster

    for name, value in TASK.items():
        monkeypatch.setenv(name, value)
    address = SlurmCluster.get_coordinator_address(None, None)
    assert cluster.resolve(NOTHING, TASK, 0)[0].coordinator_address == address


def test_flags_that_contradict_the_launcher():
    same = Membership("node07:61443", 12, 9)
    assert cluster.resolve(same, TASK, gpus=0)[1]
    with pytest.raises(ValueError, match="Slurm started this as process 9 of 12"):
        cluster.resolve(GIVEN, TASK, gpus=0)
    # The shell of sbatch says the number of tasks, but is none.
    shell = {name: TASK[name] for name in TASK if "STEP" not in name}
    assert cluster.resolve(GIVEN, shell, gpus=0) == (GIVEN, True)
    # Under Slurm, Open MPI's tasks inherit what srun told its daemon.
    assert cluster.resolve(GIVEN, TASK | OPEN_MPI, gpus=0)[1]
    with pytest.raises(ValueError, match="Open MPI started this as process 3 of 4"):
        cluster.resolve(same, TASK | OPEN_MPI, gpus=0)


@pytest.mark.parametrize(
    ("tasks", "local", "on_node", "visible", "expected"),
    [
        (1, 0, "8", "0,1,2,3,4,5,6,7", tuple(range(8))),  # JAX: GPU 0 alone
        (8, 5, "8", "0,1,2,3,4,5,6,7", (5,)),
        (2, 1, "8", "0,1,2,3,4,5,6,7", (4, 5, 6, 7)),
        (8, 5, "8", "0", (0,)),  # by --gpus-per-task=1; JAX fails with its GPU 5
        (2, 1, "8", "0,1,2,3", (0, 1, 2, 3)),
        (1, 0, "1", "0", (0,)),
        (8, 5, None, None, (5,)),  # a node whose GPUs Slurm does not know
        (8, 5, None, "5", (0,)),  # each task's own, by a script between
        (1, 0, None, None, tuple(range(8))),
        (2, 1, "8", "", (1,)),  # hidden
    ],
)
def test_gpus_of_a_task(tasks, local, on_node, visible, expected):
    given = {"SLURM_GPUS_ON_NODE": on_node, "CUDA_VISIBLE_DEVICES": visible}
    environ = TASK | {
        "SLURM_STEP_TASKS_PER_NODE": f"3,{tasks}",
        "SLURM_NODEID": "1",
        "SLURM_LOCALID": str(local),
    }
    environ |= {name: value for name, value in given.items() if value is not None}
    found, _ = cluster.resolve(NOTHING, environ, gpus=8)
    assert found.local_device_ids == expected


@pytest.mark.parametrize(
    ("tasks", "visible"), [(1, "0"), (3, "0,1,2,3,4,5,6,7"), (2, "0"), (16, "0,1")]
)
def test_gpus_that_would_be_idle_or_used_twice(tasks, visible):
    environ = TASK | {"SLURM_STEP_TASKS_PER_NODE": f"{tasks}(x4)"}
    environ |= {"SLURM_GPUS_ON_NODE": "8", "CUDA_VISIBLE_DEVICES": visible}
    with pytest.raises(ValueError, match=f"{tasks} tasks .* of 8 GPUs .*=8 --gpus-per"):
        cluster.resolve(NOTHING, environ, gpus=8)
    # Unless they are chosen.
    chosen = Membership(local_device_ids=(0,))
    assert cluster.resolve(chosen, environ, gpus=8)[0].local_device_ids == (0,)


def test_visible_gpus():
    count = cluster.count_visible_gpus
    assert count({}, 8) == 8
    cases = {"": 0, "-1": 0, "0,1": 2, "0,-1,2": 1, "GPU-8932f937,GPU-2": 2}
    for text, expected in cases.items():
        assert count({"CUDA_VISIBLE_DEVICES": text}, 8) == expected


def test_what_jax_must_find():
    assert cluster.resolve(NOTHING, {}, gpus=8) == (NOTHING, False)
    found, complete = cluster.resolve(NOTHING, TASK | OPEN_MPI | URI, gpus=8)
    assert not complete and found == Membership(local_device_ids=(4, 5, 6, 7))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"SLURM_JOB_ID": "5", "SLURM_PROCID": "0"},
            "Slurm job 5, .* not a task of srun",
        ),
        (OPEN_MPI, "OMPI_MCA_orte_hnp_uri, which JAX needs"),
        (OPEN_MPI | TASK, "OMPI_MCA_orte_hnp_uri, which JAX needs"),
    ],
)
def test_what_jax_would_not_find(environ, message):
    with pytest.raises(ValueError, match=f"found .*{message}.*--coordinator_address="):
        cluster.resolve(NOTHING, environ, gpus=0)


def test_what_was_found():
    explain = cluster.explain_nothing_found
    assert "found no variables of srun" in explain({})
    assert "a Kubernetes pod" in explain({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert "but JAX sees no TPU" in explain({"TPU_WORKER_HOSTNAMES": "a,b"})
    alone = explain({"JAX_COORDINATOR_ADDRESS": "a:1"})
    assert "JAX_COORDINATOR_ADDRESS alone" in alone
    assert len(explain(TASK | OPEN_MPI).splitlines()) == 1
