"""The cache of compiled programs: where it is, whose it is, how to do without."""

import os
import pathlib
import subprocess
import sys

import pytest

from rahf import compilation_cache

ROOT = pathlib.Path(__file__).resolve().parents[1]
JAX = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")


@pytest.fixture(autouse=True)
def _untold(monkeypatch, tmp_path):
    for name in (*JAX, compilation_cache.SWITCH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_is_private_and_limited(tmp_path):
    settings = compilation_cache.settings()
    path = pathlib.Path(settings["jax_compilation_cache_dir"])
    assert path.is_relative_to(tmp_path / "cache" / "rahf" / "compiled")
    assert path == compilation_cache.folder()
    for own in (path, path.parent):
        assert own.stat().st_mode & 0o777 == 0o700
    assert settings["jax_compilation_cache_max_size"] == 2 << 30
    assert compilation_cache.settings() == settings


def test_a_folder_that_others_may_write_to_is_not_used():
    path = compilation_cache.folder()
    path.mkdir(parents=True)
    path.chmod(0o777)
    path.parent.chmod(0o700)
    with pytest.warns(UserWarning, match=r"not kept: .*others may write to it"):
        assert compilation_cache.settings() == {}
    path.rmdir()
    path.symlink_to("/")
    with pytest.warns(UserWarning, match="is not a folder"):
        assert compilation_cache.settings() == {}
    path.parent.chmod(0o770)
    with pytest.warns(UserWarning, match="chmod 700"):
        assert compilation_cache.settings() == {}


def test_no_place_for_it_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="are not kept: .*RAHF_COMPILATION_CACHE=off"):
        assert compilation_cache.settings() == {}


def test_without_filelock_there_would_be_no_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(
        compilation_cache.importlib.util, "find_spec", lambda name: None
    )
    with pytest.warns(UserWarning, match="pip install filelock"):
        assert compilation_cache.settings() == {}
    assert not (tmp_path / "cache").exists()


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compilation_cache.folder().is_relative_to(tmp_path / ".cache" / "rahf")


@pytest.mark.parametrize(
    ("name", "value"),
    [(JAX[0], "/elsewhere"), (JAX[0], ""), (JAX[1], "false")]
    + [(compilation_cache.SWITCH, value) for value in ("off", "OFF", "0")],
)
def test_is_left_alone_or_switched_off(monkeypatch, tmp_path, name, value):
    monkeypatch.setenv(name, value)
    assert compilation_cache.settings() == {}
    assert not (tmp_path / "cache").exists()


def test_a_switch_must_be_on_or_off(monkeypatch):
    monkeypatch.setenv(compilation_cache.SWITCH, "/somewhere")
    with pytest.raises(
        ValueError, match=r"='/somewhere': expected on or off; JAX_COMP"
    ):
        compilation_cache.settings()


_LOAD = """
import jax, jax.numpy as jnp
print(jax.jit(lambda x: x + 1)(1))  # settles that there is no cache
from rahf.inference import kept_programs
kept_programs.use()
x = jnp.ones((50, 50))
for _ in range(20):
    x = x @ x + jnp.sin(x)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(jax.jit(lambda x: jnp.linalg.norm(x @ x))(x))
"""


def test_programs_are_kept_and_the_folder_is_not_made_for_nothing():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    run = lambda **more: subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOAD],
        env=environment | more,
        check=True,
        capture_output=True,
    )
    run(RAHF_COMPILATION_CACHE="off")
    assert not compilation_cache.folder().exists()
    run()
    assert any(compilation_cache.folder().glob("jit__lambda*"))


def test_commands_use_it():
    code = "import os; print(os.environ['JAX_COMPILATION_CACHE_DIR'])"
    text = f"import sys; sys.argv = ['-m']; import rahf.bin; {code}"
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(compilation_cache.folder())
    wrong = os.environ | {compilation_cache.SWITCH: "maybe"}
    done = subprocess.run(
        command, cwd=ROOT, env=wrong, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: RAHF_COMPILATION_CACHE='maybe'")
