"""What a start keeps for the next: found again, bit for bit, or made again."""

import os
import pathlib
import pickle
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rahf import compilation_cache
from rahf.checkpoints.metrics_log import read_metrics
from rahf.training import kept_steps
from rahf.training.kept_steps import Kept
from tests.bin.train_test import ONE_TARGET, ROOT, SMALL
from tests.support.quick_xla import ONE_DEVICE


def _make_step():
    def step(state, batch):
        new = {"a": state["a"] * 2 + jnp.sin(batch), "n": state["n"] + 1}
        return new, {"sum": (state["a"] ** 2).sum()}

    return jax.jit(step, donate_argnums=0)


class _Refuses:
    """A function that must not be traced."""

    def lower(self, *arguments):
        raise AssertionError("traced")


def _arguments(size=3):
    state = {"a": jnp.arange(size, dtype=jnp.float32), "n": jnp.int32(4)}
    return state, jnp.linspace(0, 1, size)


def test_a_program_is_loaded_and_the_same(tmp_path):
    expected = jax.device_get(_make_step()(*_arguments()))
    for function in (_make_step(), _Refuses()):
        run = Kept(tmp_path, "key").program("step", function)
        for _ in range(2):
            found = jax.device_get(run(*_arguments()))
            jax.tree.map(np.testing.assert_array_equal, found, expected)
    state, batch = _arguments()
    Kept(tmp_path, "key").program("step", _Refuses())(state, batch)
    assert state["a"].is_deleted()  # donated, as before


@pytest.mark.parametrize(
    ("key", "name", "size"), [("other", "step", 3), ("key", "x", 3), ("key", "step", 4)]
)
def test_another_program_is_another_file(tmp_path, key, name, size):
    Kept(tmp_path, "key").program("step", _make_step())(*_arguments())
    with pytest.raises(AssertionError, match="traced"):
        Kept(tmp_path, key).program(name, _Refuses())(*_arguments(size))


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-9], lambda x: b"", lambda x: x + b"0"]
)
def test_what_is_damaged_is_made_again(tmp_path, damage):
    kept = Kept(tmp_path, "key")
    kept.program("step", _make_step())(*_arguments())
    assert kept.value("n", lambda: 5) == 5
    assert kept.value("n", lambda: 6) == 5
    for path in tmp_path.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AssertionError, match="traced"):
        kept.program("step", _Refuses())(*_arguments())
    kept.program("step", _make_step())(*_arguments())
    kept.program("step", _Refuses())(*_arguments())
    assert kept.value("n", lambda: 7) == 7
    assert kept.value("n", lambda: 8) == 7


def test_what_was_used_longest_ago_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_steps, "MAX_BYTES", 1000)
    kept = Kept(tmp_path, "key")
    for age, name in enumerate("cba"):
        kept.value(name, lambda: b"0" * 400)
        for path in tmp_path.iterdir():
            os.utime(path, (path.stat().st_mtime - 100,) * 2)
        if age == 1:
            kept.value("c", lambda: b"")  # used again
    assert kept.value("c", lambda: b"new") != b"new"
    assert kept.value("b", lambda: b"new") == b"new"


def test_what_cannot_be_written_is_no_error(tmp_path):
    kept = Kept(tmp_path / "absent", "key")
    assert kept.value("n", lambda: 5) == 5
    assert kept.value("f", lambda: len) is len
    kept = Kept(tmp_path, "key")
    assert (
        kept.value("f", lambda: _arguments)() and kept.value("x", lambda: None) is None
    )
    with pytest.raises(AttributeError):
        pickle.dumps(local := lambda: None)
    assert kept.value("local", lambda: local) is local


def test_a_program_that_fails_is_not_loaded_again(tmp_path, monkeypatch):
    Kept(tmp_path, "key").program("step", _make_step())(*_arguments())

    def fail(*_):
        raise jax.errors.JaxRuntimeError("NOT_FOUND")

    load = kept_steps.serialize_executable
    with monkeypatch.context() as patched:
        patched.setattr(load, "deserialize_and_load", lambda *_, **__: fail)
        with pytest.raises(jax.errors.JaxRuntimeError):
            Kept(tmp_path, "key").program("step", _Refuses())(*_arguments())
    with pytest.raises(AssertionError, match="traced"):
        Kept(tmp_path, "key").program("step", _Refuses())(*_arguments())


def test_nothing_is_kept_on_several_devices():
    from configs import scenes_demo

    assert kept_steps.find(scenes_demo.get_config()) is kept_steps.NOTHING


def test_what_a_program_is_made_from_is_its_key(monkeypatch):
    from configs import scenes_demo

    config: Any = scenes_demo.get_config()
    keys = [kept_steps._key(config), kept_steps._key(config)]
    assert keys[0] == keys[1]
    config.model.dropout = 0.5
    keys.append(kept_steps._key(config))
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    keys.append(kept_steps._key(config))
    monkeypatch.setattr(kept_steps, "_source", lambda: "changed")
    keys.append(kept_steps._key(config))
    with jax.numpy_dtype_promotion("strict"):
        keys.append(kept_steps._key(config))
    assert len(set(keys)) == 5


def test_modules_of_the_users_own_are_not_known_by_our_source(tmp_path, monkeypatch):
    (tmp_path / "my_targets.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert kept_steps._is_ours(("tasks.scenes",))
    assert not kept_steps._is_ours(("tasks.scenes", "my_targets"))
    assert not kept_steps._is_ours(("not_there",))


def _train(workdir: pathlib.Path, cache: pathlib.Path, *flags: str):
    env = os.environ | ONE_DEVICE | {"XDG_CACHE_HOME": str(cache)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
        env.pop(name, None)
    env.pop(compilation_cache.SWITCH, None)
    command = [
        sys.executable,
        "-m",
        "rahf.bin.train",
        "--config=configs/scenes_demo.py",
    ]
    flags = (*SMALL, *ONE_TARGET, "--config.eval.every_steps=9", *flags)
    done = subprocess.run(
        [*command, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = ("step", "train/loss", "train/gradient_norm", "eval/plausibility/mse")
    return [[row.get(name) for name in names] for row in read_metrics(workdir)]


def _files(cache: pathlib.Path) -> set[str]:
    return {path.name for path in cache.rglob("steps/*")}


def test_a_second_start_loads_and_learns_the_same(tmp_path):
    cache = tmp_path / "cache"
    steps = "--config.training_steps=2"
    first = _train(tmp_path / "a", cache, steps)
    files = _files(cache)
    assert len(files) == 4  # the state's shapes, init, step, the count of operations
    assert _train(tmp_path / "b", cache, steps) == first
    assert _files(cache) == files
