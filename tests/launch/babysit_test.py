"""launch/tpu_vm.sh babysit: a run brought through preemptions and other ends."""

import subprocess
import time

import pytest

from tests.support import fake_gcloud
from tests.support.tpu_cloud import Cloud


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    fake_gcloud.kill_runs(tmp_path)  # of a test that failed


def _babysit(cloud, *flags):
    return cloud("--yes", *flags, "babysit", "rahf.bin.train", "--a=b c")


ONCE = ["scp", "ssh unpack", "ssh install", "ssh start"]


def test_babysit_brings_a_run_through_a_preemption(cloud):
    lost = ["ACTIVE"] * 4 + ["SUSPENDING", "SUSPENDED"]
    cloud.expect(states=lost, after_delete=["WAITING_FOR_RESOURCES", "ACTIVE"])
    cloud.ends(["waits", 0], ["waits", 0])
    done = _babysit(cloud)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["create", *ONCE, "delete", "create", *ONCE]
    assert sorted(cloud.runs()) == [
        [host, ["--a=b c"], None] for host in ("host0", "host0", "host1", "host1")
    ]
    assert "starting again (1 of 100)" in done.stderr
    assert "finished on every host" in done.stderr


def test_babysit_starts_again_where_a_run_was_asked_to_stop(cloud):
    cloud.prepared().ends(
        [75, 0], [1, 0]
    )  # the other host failed for want of the first
    done = _babysit(cloud)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["create", *ONCE[:3], *ONCE, "ssh start"]


def test_babysit_ends_with_the_exit_code_of_an_error(cloud):
    cloud.ends(0, 3)
    done = _babysit(cloud)
    assert done.returncode == 3
    assert "host1" not in done.stderr.partition("the log of host1")[0]
    assert "the log of host1" in done.stderr
    assert "the log of host0" not in done.stderr
    assert cloud.verbs() == ["create", *ONCE, "ssh excerpt"], (
        "the slice is left for a look"
    )


def test_babysit_knows_an_error_that_a_preemption_caused(cloud):
    # A host may fail for want of another before the state of the slice tells why.
    cloud.ends([1, 0], [134, 0])
    cloud.expect(after_exit=["SUSPENDED"], after_delete=["ACTIVE"])
    done = _babysit(cloud)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["create", *ONCE, "delete", "create", *ONCE]


def test_babysit_takes_up_a_run_that_goes_on(cloud):
    cloud.prepared().ends(["waits", 0], ["waits", 0])
    cloud("run", "rahf.bin.train", "--a=b c")
    cloud.until_run()
    other = cloud("--yes", "babysit", "rahf.bin.train", "--a=b", "c")
    assert other.returncode == 1
    assert "mine is running something else" in other.stderr
    before, calls = len(cloud.verbs()), len(cloud.calls())
    with subprocess.Popen(
        [*cloud.command("--yes", "babysit"), "rahf.bin.train", "--a=b c"],
        env=cloud.environment(),
    ) as babysitter:  # it has looked several times
        while len(cloud.calls()) < calls + 12 and babysitter.poll() is None:
            time.sleep(0.02)
        cloud("stop")
    assert babysitter.returncode == 0
    assert cloud.verbs()[before:] == ["ssh stop", "ssh start"]


def test_babysit_replaces_a_node_that_is_gone_though_its_request_was_granted(cloud):
    cloud.prepared().expect(node="ABSENT", after_delete=["ACTIVE"])
    done = _babysit(cloud)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs()[4:] == ["delete", "create", *ONCE]


def test_babysit_replaces_hosts_that_wait_for_one_that_is_gone(cloud):
    cloud.prepared().ends(["waits", 0], ["waits", 0])
    cloud("run", "rahf.bin.train", "--a=b c")
    cloud.until_run()
    run = cloud.folder / "host1" / "rahf-runs" / "last"
    process, _ = (run / "process").read_text().split()
    (run / "process").write_text(f"{process} before-a-reboot\n")
    done = _babysit(cloud, "--patience=1")
    assert done.returncode == 0, done.stderr
    assert "do not end" in done.stderr
    assert cloud.verbs()[5:] == ["delete", "create", *ONCE]


@pytest.mark.parametrize("kind", ["queued", "vm"])
def test_babysit_leaves_a_slice_of_somebody_else(cloud, kind):
    cloud("create")
    cloud.expect(label="somebody", states=["SUSPENDED"])
    done = _babysit(cloud, f"--kind={kind}")
    assert done.returncode == 1
    assert "this script did not create it" in done.stderr
    assert cloud.verbs() == ["create"]


def test_babysit_gives_up_in_the_end(cloud):
    cloud.ends(75, 75)
    done = _babysit(cloud, "--restarts=2")
    assert done.returncode == 1
    assert "gave up after 2 restarts" in done.stderr
    assert len(cloud.runs()) == 6


def test_babysit_waits_for_a_tpu_vm_but_not_for_a_refused_request(cloud):
    cloud.expect(states=["READY"], refuse=["no more capacity", "no more capacity"])
    assert _babysit(cloud, "--kind=vm").returncode == 0
    assert cloud.verbs() == ["create", "create", "create", *ONCE]
    cloud.expect(exists=False, refuse=["no such type"])
    done = _babysit(cloud)
    assert done.returncode == 1
    assert "no such type" in done.stderr


def test_babysit_replaces_hosts_that_do_not_answer(cloud):
    cloud.expect(broken=3, after_delete=["ACTIVE"])
    done = _babysit(cloud, "--patience=2")
    assert done.returncode == 0, done.stderr
    assert "some hosts do not answer" in done.stderr
    assert cloud.verbs() == [
        "create",
        "delete",
        "create",
        *ONCE,
    ]


def test_babysit_waits_while_gcloud_cannot_tell(cloud):
    cloud.expect(blind=[False, False, False, True, True])
    done = _babysit(cloud)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["create", *ONCE]
    assert "no network" in done.stderr
    cloud.expect(blind=[True])  # from the start, such as an expired login
    done = _babysit(cloud)
    assert done.returncode == 1
    assert "gcloud cannot tell its state" in done.stderr


def test_babysit_asks_before(cloud):
    done = cloud("babysit", "rahf.bin.train", answer="n\n")
    assert done.returncode == 1
    assert "not confirmed" in done.stderr
    assert not cloud.calls()
