"""A gcloud that keeps a TPU slice in a folder: hosts are folders, ssh is a shell.

Run by a script named `gcloud`. In the folder $FAKE_CLOUD:

    calls.jsonl     the arguments of every call, a list a line
    world.json      whether the slice exists, and what the test wants to happen to it:
        states        what the next looks find, the last of them for ever
        after_exit    the states once a look at the hosts has found every run ended
        after_delete  the states once the slice was deleted
        label         who created it
        blind         of the next looks, those that fail for another reason
        refuse        the errors of the next creations
        node          the state of the TPU VM of a request that is ACTIVE, or ABSENT
        broken        how many of the next ssh calls fail
    host0, host1    the home folders of the slice's hosts, made by `create`
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

CLOUD = pathlib.Path(os.environ.get("FAKE_CLOUD", "."))
HOSTS = ("host0", "host1")


def main(arguments: list[str]) -> int:
    with (CLOUD / "calls.jsonl").open("a") as file:
        file.write(json.dumps(arguments) + "\n")
    path = CLOUD / "world.json"
    world = json.loads(path.read_text())
    group, verb, *rest = arguments[2:]
    assert arguments[:2] == ["compute", "tpus"]
    flags = dict(a[2:].partition("=")[::2] for a in rest if a.startswith("--"))
    words = [a for a in rest if not a.startswith("--")]
    code = _VERBS[verb](world, group, flags, words)
    path.with_suffix(".new").write_text(json.dumps(world))
    path.with_suffix(".new").replace(path)
    return code


def kill_runs(cloud: pathlib.Path) -> None:
    """Ends what still runs on the hosts, as when the machines are taken away."""
    for name in ("process", "child"):
        for path in cloud.glob(f"host*/rahf-runs/*/{name}"):
            process = path.read_text().split()[0]
            # Only what runs there: a number may have been given to another since.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                variables = pathlib.Path("/proc", process, "environ").read_bytes()
                if f"FAKE_CLOUD={cloud}\0".encode() in variables:
                    os.kill(int(process), signal.SIGKILL)


def _describe(world, group, flags, words) -> int:
    if world.get("blind") and world["blind"].pop(0):
        print("ERROR: no network", file=sys.stderr)
        return 1
    if not world.get("exists"):
        print("ERROR: NOT_FOUND: Resource was not found.", file=sys.stderr)
        return 1
    states = world["states"]
    if group == "queued-resources" or "labels" in flags["format"]:
        world["state"] = states.pop(0) if len(states) > 1 else states[0]
    state = world["state"]
    if group == "tpu-vm" and state == "ACTIVE":
        state = world.get("node", "READY")
    if group == "tpu-vm" and state == "ABSENT":
        print("ERROR: NOT_FOUND: Resource was not found.", file=sys.stderr)
        return 1
    print(state, *([world["label"]] if "labels" in flags["format"] else []), sep="\t")
    return 0


def _create(world, group, flags, words) -> int:
    if world.get("refuse"):
        print(world["refuse"].pop(), file=sys.stderr)
        return 1
    world |= {"exists": True, "label": flags["labels"].partition("=")[2]}
    for host in HOSTS:
        (CLOUD / host).mkdir()
    return 0


def _delete(world, group, flags, words) -> int:
    world["exists"] = False
    kill_runs(CLOUD)
    world["states"] = world.pop("after_delete", ["ACTIVE"])
    world["node"] = "READY"
    for host in HOSTS:
        shutil.rmtree(CLOUD / host)
    return 0


def _hosts(flags) -> list[pathlib.Path]:
    chosen = HOSTS if flags["worker"] == "all" else (HOSTS[int(flags["worker"])],)
    return [CLOUD / host for host in chosen]


def _ssh(world, group, flags, words) -> int:
    if world.get("broken"):
        world["broken"] -= 1
        return 255
    codes = []
    for host in _hosts(flags):
        bin_ = CLOUD / "bin"
        environment = {
            "HOME": str(host),
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "FAKE_CLOUD": str(CLOUD),
        }
        # As gcloud and ssh do: split, joined again, and read by the host's shell.
        line = " ".join(flags["command"].split(" "))
        codes.append(
            subprocess.run(
                ["sh", "-c", line], check=False, cwd=host, env=environment
            ).returncode
        )
    ended = [(host / "rahf-runs" / "last" / "code").exists() for host in _hosts(flags)]
    if all(ended) and " status;" in line and "after_exit" in world:
        world["states"] = world.pop("after_exit")
    return max(codes)


def _scp(world, group, flags, words) -> int:
    *sources, target = words
    for host in _hosts(flags):
        for source in sources:
            _, colon, path = source.rpartition(":")
            came_from = host / path if colon else pathlib.Path(source)
            _, colon, path = target.rpartition(":")
            folder = host / path if colon else pathlib.Path(target)
            if came_from.is_dir():
                assert "recurse" in flags
                shutil.copytree(came_from, folder / came_from.name)
            else:
                shutil.copy(came_from, folder)
    return 0


_VERBS = {
    "describe": _describe,
    "create": _create,
    "delete": _delete,
    "ssh": _ssh,
    "scp": _scp,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
