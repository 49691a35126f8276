"""rahf.bin.plan as a user calls it, with XLA's compiler for TPUs."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

from tests.bin.train_test import SMALL

ROOT = pathlib.Path(__file__).parents[2]
LIBTPU = ROOT / ".venv" / "tpu"  # from tests/run.sh


def test_a_small_model_compiles_for_a_slice(tmp_path):
    assert (LIBTPU / "libtpu").is_dir() or importlib.util.find_spec("libtpu"), (
        "XLA's compiler for TPUs is not installed; bash tests/run.sh installs it"
    )
    output = tmp_path / "plan.json"
    path = [str(LIBTPU), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-m", "rahf.bin.plan", "--config=configs/scenes.py"]
        + ["--topology=v5e:2x2", f"--json={output}", *SMALL]
        + ["--config.sharding.mesh.fsdp=2", "--config.model.vit.stem=patch"]
        + ["--config.model.word_presence=False"],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "v5e:2x2: 4 chips, 1 hosts, data 2 x fsdp 2 x model 1" in done.stdout
    assert "compiled in " in done.stdout and ": fits: 0." in done.stdout
    assert "Traceback" not in done.stderr
    found = json.loads(output.read_text("utf-8"))
    [plan], compiled = found["plans"], found["compiled"]
    assert compiled["collectives"]["all-gather"][0] > 0
    assert compiled["flops"] > 0.5 * plan["executed_flops"] / 4
    # Small arrays are padded to tiles, and the program itself takes room.
    estimate = sum(plan["memory"][name] for name in plan["memory"] if name != "chip")
    assert 0.1 * compiled["needed_bytes"] < estimate < compiled["needed_bytes"]
    [record] = json.loads((tmp_path / "rahf" / "compile_times.json").read_text("utf-8"))
    assert record["operations"] == plan["operations"]
