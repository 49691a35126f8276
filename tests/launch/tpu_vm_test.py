"""launch/tpu_vm.sh against a gcloud that keeps its slice in a folder."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from tests.support import fake_gcloud
from tests.support.tpu_cloud import ROOT, Cloud


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    fake_gcloud.kill_runs(tmp_path)  # of a test that failed


def test_a_queued_resource_is_created_with_the_software_of_its_type(cloud):
    cloud.expect(states=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    done = cloud("--spot", "--create_flag=--network=a b", "create")
    assert done.returncode == 0, done.stderr
    create, *looks = cloud.calls()
    assert create == [
        "compute",
        "tpus",
        "queued-resources",
        "create",
        "mine",
        "--zone=us-east5-b",
        "--quiet",
        "--accelerator-type=v6e-8",
        "--labels=launched_by=rahf_tpu_vm",
        "--spot",
        "--node-id=mine",
        "--runtime-version=v2-alpha-tpuv6e",
        "--network=a b",
    ]
    assert [look[2:4] for look in looks] == [
        ["queued-resources", "describe"],
        ["queued-resources", "describe"],
        ["queued-resources", "describe"],
        ["tpu-vm", "describe"],
    ]


def test_a_tpu_vm_is_created_at_once(cloud):
    cloud.expect(states=["CREATING", "READY"])
    done = cloud("--kind=vm", "--type=v4-8", "--project=p", "create")
    assert done.returncode == 0, done.stderr
    create = cloud.calls()[0]
    assert create[2:4] == ["tpu-vm", "create"]
    assert {"--version=tpu-ubuntu2204-base", "--project=p"} <= set(create)
    assert "--spot" not in create


@pytest.mark.parametrize("type_", ["v5p-8", "v5litepod-16"])
def test_other_types_have_other_software(cloud, type_):
    versions = {"v5p-8": "v2-alpha-tpuv5", "v5litepod-16": "v2-alpha-tpuv5-lite"}
    done = cloud(f"--type={type_}", "--dry_run", "create")
    assert f"--runtime-version={versions[type_]}\n" in done.stdout.replace(" ", "\n")


def test_a_request_that_fails_is_an_error(cloud):
    cloud.expect(states=["WAITING_FOR_RESOURCES", "FAILED"])
    done = cloud("create")
    assert done.returncode == 1
    assert "error: mine was not created" in done.stderr


def test_the_tree_is_copied_and_installed_once(cloud):
    cloud.prepared()
    for host in ("host0", "host1"):
        home = cloud.folder / host
        assert (home / "rahf" / "rahf" / "bin" / "train.py").exists()
        assert not [
            (home / "rahf" / n)
            for n in ("runs", ".git")
            if (home / "rahf" / n).exists()
        ]
        [pip] = (home / "pip").read_text().splitlines()
        assert pip.endswith("--editable .[tpu,train]")
    (cloud.tree / "rahf" / "new.py").write_text("")
    (cloud.tree / "rahf" / "bin" / "train.py").unlink()
    assert cloud("copy").returncode == 0
    assert cloud("install").returncode == 0
    assert (home / "rahf" / "rahf" / "new.py").exists()
    assert not (home / "rahf" / "rahf" / "bin" / "train.py").exists()
    assert len((home / "pip").read_text().splitlines()) == 1, ".venv was kept"
    (cloud.tree / "setup.py").write_text("# other requirements")
    assert cloud("copy").returncode == cloud("install").returncode == 0
    assert len((home / "pip").read_text().splitlines()) == 2


HARD = [
    "it's",
    'a "b"  c',
    "$HOME",
    "`id`",
    "a\nb",
    "\\",
    "*",
    "",
    "ü;&|>x",
    "--x='y z'",
]


def test_arguments_survive_every_shell_on_the_way(cloud):
    cloud.prepared()
    done = cloud("--env=FLAGS=--a='b c' $x", "run", "rahf.bin.train", *HARD, "--name=z")
    assert done.returncode == 0, done.stderr
    cloud.until(("exited", "0"), ("exited", "0"))
    arguments = [*HARD, "--name=z"]
    expected = [[host, arguments, "--a='b c' $x"] for host in ("host0", "host1")]
    assert sorted(cloud.runs()) == expected


def test_a_run_outlives_its_connection_and_is_stopped_by_sigterm(cloud):
    cloud.prepared().ends("waits", "waits")
    assert cloud("run", "rahf.bin.train").returncode == 0
    command = cloud.calls()[-1][-1].removeprefix("--command=")
    assert " start " in command
    assert cloud.states() == [("running", "-")] * 2
    # gcloud repeats a command whose connection broke: the run is not started twice.
    again = subprocess.run(
        [
            sys.executable,
            fake_gcloud.__file__,
            "compute",
            "tpus",
            "tpu-vm",
            "ssh",
            "--worker=all",
        ]
        + [f"--command={command}"],
        env={"PATH": os.environ["PATH"], "FAKE_CLOUD": str(cloud.folder)},
        check=False,
    )
    assert again.returncode == 0
    for verb in (("run", "rahf.bin.train"), ("copy",), ("install",)):
        refused = cloud(*verb)
        assert refused.returncode == 1
        assert "a run is going on; stop it first" in refused.stderr
    cloud.until_run()
    assert cloud("stop").returncode == 0
    cloud.until(("exited", "75"), ("exited", "75"))
    assert len(cloud.runs()) == 2


def test_the_exit_code_is_kept_when_the_host_is_terminated(cloud):
    cloud.prepared().ends("waits", "waits")
    cloud("run", "rahf.bin.train")
    cloud.until_run()
    for host in ("host0", "host1"):  # a shutdown signals every process once
        run = cloud.folder / host / "rahf-runs" / "last"
        os.kill(int((run / "process").read_text().split()[0]), signal.SIGTERM)
        os.kill(int((run / "child").read_text()), signal.SIGTERM)
    cloud.until(("exited", "75"), ("exited", "75"))


def test_a_host_that_was_rebooted_is_told_from_one_that_runs(cloud):
    cloud.prepared().ends("waits", "waits")
    cloud("run", "rahf.bin.train")
    path = cloud.folder / "host1" / "rahf-runs" / "last" / "process"
    process, _ = path.read_text().split()
    path.write_text(f"{process} another-boot\n")
    assert cloud.states() == [("running", "-"), ("lost", "-")]


def test_logs_of_a_host_are_followed_to_the_end(cloud):
    cloud.prepared().ends(0, 3)
    assert cloud("run", "rahf.bin.train").returncode == 0
    done = cloud("--worker=1", "logs")
    assert "the log of host1" in done.stdout
    cloud.until(("exited", "0"), ("exited", "3"))


def test_a_folder_comes_back(cloud):
    cloud.prepared()
    for path in ("rahf/runs/demo", "abs"):
        (cloud.folder / "host1" / path).mkdir(parents=True)
        (cloud.folder / "host1" / path / "x").write_text("1")
    target = cloud.folder / "back"
    target.mkdir()
    done = cloud("--worker=1", "fetch", "runs/demo", str(target))
    assert done.returncode == 0, done.stderr
    assert (target / "demo" / "x").read_text() == "1"
    assert cloud("--dry_run", "fetch", "/mnt/b/x").stdout.split()[-5] == "mine:/mnt/b/x"


def test_a_bucket_is_mounted_without_caches(cloud):
    for name in ("sudo", "mountpoint", "gcsfuse"):
        text = f'#!/bin/sh\necho {name} "$*" >>"$HOME/mounts"\n'
        cloud.program(name, text + ("exit 1\n" if name == "mountpoint" else ""))
    for verb in ("create", "copy", "install"):
        assert cloud("--bucket=b", verb).returncode == 0
    path = cloud.folder / "host1" / "mounts"
    expected = (
        "gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 "
        "--metadata-cache-negative-ttl-secs=0 b /mnt/b"
    )
    assert path.read_text().splitlines()[-1] == expected
    path.unlink()  # a reboot unmounts it; the next run mounts it again
    assert cloud("run", "rahf.bin.train").returncode == 0
    assert path.read_text().splitlines()[-1] == expected
    cloud.until(("exited", "0"), ("exited", "0"))


def test_only_what_the_script_created_is_deleted(cloud):
    cloud("create")
    cloud.expect(label="somebody")
    done = cloud("--yes", "delete")
    assert done.returncode == 1
    assert "this script did not create it" in done.stderr
    cloud.expect(label="rahf_tpu_vm")
    done = cloud("delete", answer="n\n")
    assert done.returncode == 1
    assert "not confirmed" in done.stderr
    cloud.expect(blind=[True])
    assert cloud("--yes", "delete").returncode == 1
    assert "delete" not in cloud.verbs()
    assert cloud("delete", answer="y\n").returncode == 0
    assert cloud.calls()[-1][2:] == [
        "queued-resources",
        "delete",
        "mine",
        "--zone=us-east5-b",
        "--quiet",
        "--force",
    ]
    assert cloud("delete").returncode == 0, "nothing is left to delete"
    assert cloud.verbs().count("delete") == 1


def test_a_dry_run_prints_what_would_be_called_and_calls_nothing(cloud):
    done = cloud("--dry_run", "--spot", "babysit", "rahf.bin.train", "--a=b c")
    assert done.returncode == 0, done.stderr
    assert not cloud.calls()
    told = [shlex.split(line) for line in done.stdout.splitlines()]
    called = [line for line in told if line[0] == "gcloud"]
    assert [line[4] for line in called] == (
        ["create", "scp", "ssh", "ssh", "ssh", "ssh", "delete"]
    )
    start = called[4][-1].removeprefix("--command=")
    assert shlex.split(start)[-2:] == ["rahf.bin.train", "--a=b c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "expected create, copy, install"),
        ([], "expected create, copy, install"),
        (["--nam=x", "create"], "unknown flag --nam=x; see --help"),
        (["--name=Mine", "create"], "--name='Mine': expected lower-case letters"),
        (["--zone=", "create"], "--zone: expected a zone"),
        (["--type=", "create"], "--type: expected an accelerator type"),
        (["--kind=node", "create"], "--kind=node: expected queued or vm"),
        (["run", "os.path"], "expected a module of rahf, such as rahf.bin.train"),
        (["run"], "got ''"),
        (["babysit", "rahf.bin.trian"], "got 'rahf.bin.trian'"),
        (["fetch"], "fetch: expected a path"),
    ],
)
def test_errors_say_what_was_expected(cloud, arguments, message):
    done = cloud(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert not cloud.calls()


def test_help_tells_every_command_and_flag(cloud):
    done = cloud("--help")
    assert done.returncode == 0
    script = (ROOT / "launch" / "tpu_vm.sh").read_text("utf-8")
    commands = re.search(r"^  (create \| .*)\) shift", script, re.MULTILINE)
    for command in commands.group(1).split(" | "):
        assert f"\n  {command} " in done.stdout
    parser = script.partition("\nwhile ")[2].partition("\ndone")[0]
    flags = re.findall(r"--(\w+)(?:=\S*)?(?: \||\))", parser)
    assert len(flags) > 15
    for flag in flags:
        assert f"--{flag}" in done.stdout
    assert "set -euo" not in done.stdout
