"""What is imported when, seen from a fresh interpreter."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TENSORFLOW = {"tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio"}
HEAVY = TENSORFLOW | {"jax", "flax", "optax", "orbax", "tensorstore", "grain"}

_RUN = """
import json, runpy, sys
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
code = 0
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as done:
    code = done.code
print("\\n" + json.dumps([code, sorted({m.split(".")[0] for m in sys.modules})]))
"""


def _modules(code: str, *arguments: str) -> tuple[int, set[str], str]:
    """Runs code that prints [exit code, modules] last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    output, _, last = done.stdout.rstrip().rpartition("\n")
    code_, modules = json.loads(last)
    return code_, set(modules), output


def test_import_rahf_is_light():
    text = "import json, sys, rahf; rahf.__version__; dir(rahf)"
    _, modules, _ = _modules(
        f"{text}; print(json.dumps([0, [m.split('.')[0] for m in sys.modules]]))"
    )
    assert not modules & (HEAVY | {"numpy", "PIL"})


def test_loading_a_model_loads_no_dataset_loader_or_training_code():
    text = "import json, sys, rahf; rahf.load"
    _, modules, _ = _modules(
        f"{text}; print(json.dumps([0, [m for m in sys.modules if 'rahf' in m]]))"
    )
    assert "rahf.inference.predictor" in modules
    unwanted = ("datasets", "training", "evaluation", "input.seqio", "input.catalog")
    unwanted += ("input.loader", "input.grain_loader")
    prefixes = tuple(f"rahf.{name}" for name in unwanted)
    assert not [name for name in modules if name.startswith(prefixes)]


def test_using_predictions_needs_no_jax():
    names = "applications.selecting", "applications.masking", "applications.weighting"
    names += "reports.contact_sheet", "reports.yield_chart"
    text = f"import json, sys, {', '.join(f'rahf.{name}' for name in names)}"
    _, modules, _ = _modules(
        f"{text}; print(json.dumps([0, [m.split('.')[0] for m in sys.modules]]))"
    )
    assert not modules & HEAVY


_LOG = """
import importlib.util, json, sys
from rahf.checkpoints.metrics_log import MetricsLog, read_metrics
before = set(sys.modules)
log = MetricsLog(sys.argv[1], 0)
log.write(1, {"loss": 0.5})
log.close()
print(read_metrics(sys.argv[1])[0]["loss"], importlib.util.find_spec("torch") is not None)
print(json.dumps([int("tensorboardX" in before), list(sys.modules)]))
"""


def test_a_log_loads_no_pytorch(tmp_path):
    """tensorboardX would load it where it is installed; only writing needs that."""
    early, modules, output = _modules(_LOG, str(tmp_path))
    assert not early and "tensorboardX" in modules
    assert "torch" not in modules and "torch._tensor" not in modules
    installed = importlib.util.find_spec("torch") is not None
    assert output == f"0.5 {installed}"  # and it can be loaded afterwards


def test_unknown_names_are_told():
    import rahf

    assert "load" in dir(rahf)
    with pytest.raises(AttributeError, match="no attribute 'lode'; it has: load"):
        _ = rahf.lode


@pytest.mark.parametrize(
    ("binary", "forbidden"),
    [
        ("train", TENSORFLOW),
        ("import_weights", HEAVY),
        ("predict", HEAVY),
        ("eval_heatmaps", TENSORFLOW),
        ("eval_scores", TENSORFLOW),
        ("eval_keywords", TENSORFLOW),
        ("export_scenes", HEAVY),
        ("export", HEAVY),
        ("build_richhf", HEAVY),
        ("select", HEAVY),
        ("benchmark_input", HEAVY),
        ("benchmark_step", HEAVY),
        ("benchmark_predict", HEAVY),
    ],
)
def test_help_is_light(binary, forbidden):
    code, modules, output = _modules(_RUN, f"rahf.bin.{binary}", "--help")
    assert not modules & forbidden
    assert code == 0
    assert f"rahf.bin.{binary}" in output
