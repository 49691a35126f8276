"""launch/*.yaml: Kubernetes' own schemas, and what a run of several hosts depends on."""

import importlib
import os
import pathlib
import re
import subprocess

import kubernetes_validate
import pytest
import yaml
from absl import flags

from rahf.bin import shipped

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOBSETS = ("tpu", "gpu")


def _text(name):
    return (ROOT / "launch" / name).read_text("utf-8")


def _variables(kind):
    """What the header of the manifest exports, by name."""
    exports = re.findall(
        r"^#   export (.*)", _text(f"jobset_{kind}.yaml"), re.MULTILINE
    )
    return dict(word.split("=") for line in exports for word in line.split())


def _jobset(kind):
    """The manifest as its header has it rendered; envsubst replaces ${NAME} alone."""
    variables = _variables(kind)
    text = "".join(
        line
        for line in _text(f"jobset_{kind}.yaml").splitlines(keepends=True)
        if not line.startswith("#")
    )
    used = set(re.findall(r"\$\{(\w+)\}", text))
    assert used == set(variables)
    return yaml.safe_load(re.sub(r"\$\{(\w+)\}", lambda m: variables[m[1]], text))


def _job(kind):
    [job] = _jobset(kind)["spec"]["replicatedJobs"]
    return job["template"]["spec"]


def _pod(kind):
    return _job(kind)["template"]["spec"]


def _container(kind):
    [container] = _pod(kind)["containers"]
    return container


def _environment(kind):
    return {each["name"]: each for each in _container(kind)["env"]}


@pytest.mark.parametrize("kind", JOBSETS)
def test_the_job_is_what_kubernetes_accepts(kind):
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "x"},
        "spec": _job(kind),
    }
    for version in ("1.33", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(job, version, strict=True)
    job["spec"]["template"]["spec"]["hostNetwrk"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostNetwrk"):
        kubernetes_validate.validate(job, version, strict=True)


@pytest.mark.parametrize("kind", JOBSETS)
def test_hosts_start_together_and_are_replaced_together(kind):
    jobset, job = _jobset(kind), _job(kind)
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert jobset["kind"] == "JobSet"
    assert jobset["metadata"]["name"] == "base"
    assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 1
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] == 4
    assert job["backoffLimit"] == 0
    assert _pod(kind)["restartPolicy"] == "Never"
    assert _pod(kind)["hostNetwork"] is True
    assert _pod(kind)["dnsPolicy"] == "ClusterFirstWithHostNet"


@pytest.mark.parametrize("kind", JOBSETS)
def test_what_is_preempted_starts_again_without_end_and_errors_do_not(kind):
    policy = _jobset(kind)["spec"]["failurePolicy"]
    assert 0 < policy["maxRestarts"] <= 10  # the default is none
    [rule] = policy["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    # The API server refuses other names.
    assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    asked, disrupted = _job(kind)["podFailurePolicy"]["rules"]
    assert asked["action"] == disrupted["action"] == "FailJob"
    assert asked["onExitCodes"] == {
        "containerName": _container(kind)["name"],
        "operator": "In",
        "values": [75],
    }
    assert disrupted["onPodConditions"] == [
        {"type": "DisruptionTarget", "status": "True"}
    ]


@pytest.mark.parametrize("kind", JOBSETS)
def test_python_is_asked_to_stop_and_has_time_to_save(kind):
    container = _container(kind)
    # The image's own entry point: no shell that would keep the signal to itself.
    assert container["command"][:4] == ["tini", "--", "python", "-m"]
    assert '"tini", "--", "python", "-m"' in _text("Dockerfile")
    assert _pod(kind)["terminationGracePeriodSeconds"] >= 120


@pytest.mark.parametrize(
    ("kind", "device", "selector"),
    [
        (
            "tpu",
            {"google.com/tpu": 4},
            {
                "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
                "cloud.google.com/gke-tpu-topology": "4x4",
            },
        ),
        (
            "gpu",
            {"nvidia.com/gpu": 8},
            {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"},
        ),
    ],
)
def test_a_pod_takes_all_of_a_host(kind, device, selector):
    assert _pod(kind)["nodeSelector"] == selector
    resources = _container(kind)["resources"]
    assert resources["limits"] == device
    assert device.items() < resources["requests"].items()
    assert {"cpu", "memory"} < resources["requests"].keys()
    [toleration] = _pod(kind)["tolerations"]
    assert [toleration["key"]] == list(device)
    if kind == "tpu":  # a v6e topology is its chips
        rows, columns = map(int, _variables("tpu")["TOPOLOGY"].split("x"))
        chips = _job("tpu")["parallelism"] * device["google.com/tpu"]
        assert rows * columns == chips


def test_a_slice_belongs_to_one_job():
    assert _jobset("tpu")["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }


@pytest.mark.parametrize("kind", JOBSETS)
def test_the_workdir_lies_in_a_bucket_that_every_host_sees(kind):
    template = _job(kind)["template"]
    assert template["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    assert _pod(kind)["serviceAccountName"] == "rahf"
    volumes = {each["name"]: each for each in _pod(kind)["volumes"]}
    mounts = {m["name"]: m["mountPath"] for m in _container(kind)["volumeMounts"]}
    assert mounts == {"bucket": "/bucket", "shm": "/dev/shm"}
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
    bucket = volumes["bucket"]["csi"]
    assert bucket["driver"] == "gcsfuse.csi.storage.gke.io"
    attributes = bucket["volumeAttributes"]
    assert attributes["bucketName"] == "my-bucket"
    assert attributes["hostNetworkPodKSA"] == "true"  # a string, as all attributes
    assert attributes["mountOptions"].split(",") == [
        "implicit-dirs",
        "metadata-cache:ttl-secs:0",
        "metadata-cache:negative-ttl-secs:0",
    ]
    assert "--workdir=/bucket/base" in _container(kind)["args"]
    cache = _environment(kind)["JAX_COMPILATION_CACHE_DIR"]["value"]
    assert cache.startswith("/bucket/")
    # The image's user, so that it may write there.
    security = _pod(kind)["securityContext"]
    assert security["runAsNonRoot"] is True
    owner = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert f"USER {owner}\n" in _text("Dockerfile")
    assert security["fsGroup"] == security["runAsGroup"]


def test_gpu_pods_know_their_coordinator_and_their_rank():
    arguments = _container("gpu")["args"]
    first = "$(JOBSET_NAME)-$(REPLICATED_JOB_NAME)-0-0.$(JOBSET_NAME)"
    assert arguments[:3] == [
        f"--coordinator_address={first}:8476",
        "--num_processes=4",
        "--process_id=$(PROCESS_ID)",
    ]
    paths = {
        name: each["valueFrom"]["fieldRef"]["fieldPath"]
        for name, each in _environment("gpu").items()
        if "valueFrom" in each
    }
    assert paths == {
        "JOBSET_NAME": "metadata.annotations['jobset.sigs.k8s.io/jobset-name']",
        "REPLICATED_JOB_NAME": (
            "metadata.annotations['jobset.sigs.k8s.io/replicatedjob-name']"
        ),
        "PROCESS_ID": (
            "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        ),
    }
    values = {n: e["value"] for n, e in _environment("gpu").items() if "value" in e}
    assert 0.8 <= float(values["XLA_PYTHON_CLIENT_MEM_FRACTION"]) <= 0.9
    assert values["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
    assert values["XLA_FLAGS"] == "--xla_gpu_enable_latency_hiding_scheduler=true"


def _sky():
    return yaml.safe_load(_text("sky.yaml"))


def _sky_command(tmp_path, script, **variables):
    """What a script of the task runs last, as words, and its environment."""
    shell = tmp_path / ".venv" / "bin" / "python"
    shell.parent.mkdir(parents=True)
    shell.write_text('#!/bin/sh\nfor word; do echo "$word"; done\nenv >environment\n')
    shell.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines(), (tmp_path / "environment").read_text()


def test_skypilot_starts_again_on_other_machines():
    task = _sky()
    resources = task["resources"]
    assert resources["accelerators"] == "tpu-v6e-32"
    # Arguments of a TPU would go on to the GPUs of --gpus.
    assert "accelerator_args" not in resources
    assert resources["use_spot"] is True
    assert resources["job_recovery"]["recover_on_exit_codes"] == [75, 76]
    assert resources["job_recovery"]["max_restarts_on_errors"] > 0
    assert task["file_mounts"] == {
        "/bucket": {"source": "gs://${BUCKET}", "mode": "MOUNT"}
    }
    assert task["envs"] == {"NAME": "rahf", "EXTRAS": "tpu,train", "BUCKET": None}


def test_skypilot_on_a_slice(tmp_path):
    words, _ = _sky_command(tmp_path, _sky()["run"], NAME="a b", EXTRAS="tpu,train")
    assert words == [
        "-m",
        "rahf.bin.train",
        "--distributed",
        "--config=configs/rahf_base.py",
        "--workdir=/bucket/a b",
    ]


def test_skypilot_on_gpu_nodes(tmp_path):
    words, environment = _sky_command(
        tmp_path,
        _sky()["run"],
        NAME="base",
        EXTRAS="gpu,train",
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
        SKYPILOT_NUM_NODES="2",
        SKYPILOT_NODE_RANK="1",
    )
    assert words[2:5] == [
        "--coordinator_address=10.0.0.1:8476",
        "--num_processes=2",
        "--process_id=1",
    ]
    assert "CUDA_DEVICE_MAX_CONNECTIONS=1\n" in environment


def _trained_with():
    """The arguments of rahf.bin.train in every file here."""
    for kind in JOBSETS:
        yield f"jobset_{kind}.yaml", _container(kind)["args"]
    words = re.findall(r"--\w+=?[^\s\"')]*", _sky()["run"])
    yield "sky.yaml", [w for w in words if not w.startswith("--xla")]


@pytest.mark.parametrize(("file", "arguments"), list(_trained_with()))
def test_the_flags_are_those_of_training(file, arguments):
    train = importlib.import_module("rahf.bin.train")
    known = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(train)}
    named = dict(a.removeprefix("--").partition("=")[::2] for a in arguments)
    assert {"config", "workdir"} <= named.keys() <= known
    if file == "sky.yaml":  # it brings the tree
        assert (ROOT / named["config"]).is_file()
    else:  # the image has the configs as a package
        assert named["config"] in shipped.shipped()
