"""Keeps compiled programs on disk, so that a second start compiles nothing.

On for every command and for `rahf.load`. What JAX keeps is code, so the folder is the
user's own: `$XDG_CACHE_HOME/rahf/compiled` (`~/.cache/rahf/compiled`), mode 0700, with
a folder within for each kind of processor, since programs of one may crash another.
`RAHF_COMPILATION_CACHE=off` switches it off. Where JAX is told of a cache
(`JAX_COMPILATION_CACHE_DIR`) or to have none, it is left alone.

Nothing heavy is imported, so that `--help` is fast.
"""

import hashlib
import importlib.util
import os
import pathlib
import platform
import stat
import warnings
from typing import Any

SWITCH = "RAHF_COMPILATION_CACHE"
#: When it is full, JAX removes what was used longest ago.
MAX_BYTES = 2 << 30
_OFF = ("off", "0", "false", "no")
_ON = ("", "on", "1", "true", "yes")


def set_environment() -> None:
    """Switches the cache on for this process and those it starts, before JAX is
    imported.

    Raises:
      ValueError: the switch has another value than on or off.
    """
    for name, value in settings().items():
        os.environ.setdefault(name.upper(), str(value))


def settings() -> dict[str, Any]:
    """Returns JAX's options, by name; none where there is to be no cache.

    Raises:
      ValueError: the switch has another value than on or off.
    """
    switch = os.environ.get(SWITCH, "").lower()
    if switch not in _OFF + _ON:
        raise ValueError(
            f"{SWITCH}={switch!r}: expected on or off; JAX_COMPILATION_CACHE_DIR names "
            f"another folder"
        )
    told = {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & {*os.environ}
    if switch in _OFF or told:
        return {}
    try:
        if importlib.util.find_spec("filelock") is None:
            raise OSError("JAX limits their size with filelock; pip install filelock")
        path = _private_folder()
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"compiled programs are not kept: {error}. {SWITCH}=off silences this",
            stacklevel=3,
        )
        return {}
    return {
        "jax_compilation_cache_dir": str(path),
        "jax_compilation_cache_max_size": MAX_BYTES,
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }


def folder() -> pathlib.Path:
    """Returns where this machine's programs are kept; it may not exist."""
    home = os.environ.get("XDG_CACHE_HOME")
    # The specification ignores relative paths.
    base = pathlib.Path(home or "").expanduser()
    if not base.is_absolute():
        base = pathlib.Path.home() / ".cache"
    return base / "rahf" / "compiled" / _processor()


def _private_folder() -> pathlib.Path:
    path = folder()
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    for own in (path.parent, path):
        own.mkdir(mode=0o700, exist_ok=True)
        found = own.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{own} is not a folder")
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise OSError(
                f"{own} belongs to another user, or others may write to it (chmod 700)"
            )
    return path


def _processor() -> str:
    """Names what this processor can do: programs are compiled for exactly that."""
    file = pathlib.Path("/proc/cpuinfo")
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    names = ("flags", "features", "model name", "cpu part")
    traits = {line for line in lines if line.lower().startswith(names)}
    text = "\n".join([platform.machine(), platform.processor(), *sorted(traits)])
    return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
