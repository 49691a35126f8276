"""Kills a training run at random moments, and compares it with an undisturbed one.

    python tests/soak/kill_train.py OUTPUT --kills=20 --seed=0

It is not part of the test suite, as it takes minutes. Every other kill comes while a
checkpoint is being written. It prints a line for each kill, and goes on with the next
one if it is started again. At the end, the parameters must be equal bit for bit, and
metrics.jsonl must have each step once, with the same losses.
"""

import argparse
import json
import os
import pathlib
import random
import runpy
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

STEPS, SAVE_EVERY = 400, 5


def start(workdir: pathlib.Path) -> int:
    """Starts rahf.bin.train in a copy of this process, which has imported everything.

    Returns:
      The process id.
    """
    if child := os.fork():
        return child
    with (workdir.parent / f"{workdir.name}.log").open("a") as log:
        os.dup2(log.fileno(), 2)
    sys.argv = [
        "train",
        f"--config={ROOT}/tests/support/tiny_scenes.py",
        f"--workdir={workdir}",
        f"--config.training_steps={STEPS}",
        f"--config.checkpoint.every_steps={SAVE_EVERY}",
        f"--config.eval.every_steps={STEPS}",
    ]
    runpy.run_module("rahf.bin.train", run_name="__main__", alter_sys=True)
    os._exit(0)


def rows_of(workdir: pathlib.Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def last_step(workdir: pathlib.Path) -> int:
    rows = rows_of(workdir)
    return rows[-1]["step"] if rows else 0


def saved_steps(workdir: pathlib.Path) -> list[int]:
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def is_saving(workdir: pathlib.Path) -> bool:
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def ended(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG)[0] != 0


def kill_once(workdir: pathlib.Path, rng: random.Random, in_save: bool) -> dict:
    """Lets the run go on for a while, and kills it."""
    begin, before = time.monotonic(), saved_steps(workdir)
    resumed = before[-1] if before else 0
    child = start(workdir)
    wanted = resumed + rng.randint(1, 3 * SAVE_EVERY)
    # Behind the checkpoint there may be lines that the new process has yet to cut.
    stamp = time.time()
    path = workdir / "metrics.jsonl"
    while not (path.exists() and path.stat().st_mtime > stamp):
        if ended(child):
            raise SystemExit(f"{workdir}.log: the run ended by itself")
        time.sleep(0.002)
    while last_step(workdir) < wanted or (in_save and not is_saving(workdir)):
        if ended(child):
            raise SystemExit(f"{workdir}.log: the run ended by itself")
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {
        "resumed_from": resumed,
        "killed_after": last_step(workdir),
        "in_save": is_saving(workdir),
        "complete": saved_steps(workdir),
        "seconds": round(time.monotonic() - begin, 1),
    }


def to_the_end(workdir: pathlib.Path) -> None:
    if os.waitpid(start(workdir), 0)[1]:
        raise SystemExit(f"{workdir}.log: the run failed")


def compare(whole: pathlib.Path, killed: pathlib.Path) -> None:
    """Raises AssertionError if the runs differ."""
    import numpy as np

    from rahf.checkpoints import restore

    params, expected = restore.read_params(killed), restore.read_params(whole)
    assert params.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(params[name], value, err_msg=name)
    rows, wanted = rows_of(killed), rows_of(whole)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["train/loss"] for row in rows] == [x["train/loss"] for x in wanted]
    print(f"equal: {len(expected)} tensors bit for bit, {len(rows)} lines, each once")


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("output", type=pathlib.Path)
    flags.add_argument("--kills", type=int, default=20)
    flags.add_argument("--seed", type=int, default=0)
    options = flags.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_PLATFORMS"] = "cpu"
    cache = (options.output / "compiled").resolve()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.chdir(ROOT)
    import rahf.evaluation.split
    import rahf.input.loader
    import rahf.training.loop  # noqa: F401  copies of this process have it, too

    table = options.output / "kills.jsonl"
    done = len(table.read_text().splitlines()) if table.exists() else 0
    for number in range(done, options.kills):
        rng = random.Random(f"{options.seed}/{number}")
        row = {"kill": number + 1}
        row |= kill_once(options.output / "killed", rng, in_save=number % 2 == 1)
        with table.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    for name in ("killed", "whole"):
        to_the_end(options.output / name)
    compare(options.output / "whole", options.output / "killed")


if __name__ == "__main__":
    main()
