"""Keeps what a start of training traces and compiles, so that the next does neither.

JAX's own cache of compiled programs asks to be shown the program, and tracing the model
in Python then takes longer than loading what was compiled. Here programs are found by
what they are made from: the config, the source of rahf, the versions of what it calls,
the settings of JAX and XLA, and the shapes of what goes in. What is kept is the very
program, so that a run is the same bit for bit.

It lies beside JAX's cache and only where that is ours (`rahf.compilation_cache`): a file
holds code and is unpickled, and the folder is the user's own. A file that is damaged or
does not load is compiled again. One process on one CPU device; elsewhere nothing is kept,
since it was not tried there.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import pickle
import platform
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from rahf import compilation_cache, durable, targets

#: When there is more, what was used longest ago goes.
MAX_BYTES = 512 << 20
_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")
_ENVIRONMENT = ("JAX_", "XLA_", "FLAX_", "LIBTPU_")
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_OURS = ("rahf", "tasks")
_DIGEST_BYTES = hashlib.sha256().digest_size


class Kept:
    """What earlier starts with one config left behind."""

    def __init__(self, folder: pathlib.Path | None, key: str):
        """Args:
        folder: where it lies; None keeps nothing.
        key: stands for everything that a program is made from, but for its arguments.
        """
        self._folder, self._key = folder, key

    def value(self, name: str, make: Callable[[], Any]) -> Any:
        """Returns what `make` returns, or what it returned in an earlier start.

        Args:
          name: says which value of the config it is.
          make: returns a value that can be pickled.
        """
        if self._folder is None:
            return make()
        path = self._path(name)
        found = _read(path)
        if found is None:
            found = (make(),)
            _write(path, found)
        return found[0]

    def program(self, name: str, function: Any) -> Callable[..., Any]:
        """Returns a jitted function that is loaded rather than traced, where it can be.

        Args:
          name: says which function of the config it is.
          function: from `jax.jit`. It is called with arguments of the same shapes and
            shardings every time.
        """
        return function if self._folder is None else _Program(self, name, function)

    def compiled(
        self, name: str, function: Any, arguments: tuple
    ) -> Callable[..., Any]:
        """Returns the compiled function for these arguments, loaded or made now.

        Args:
          name: says which function of the config it is.
          function: from `jax.jit`, not called yet: what JAX has loaded from its own
            cache can be written, but not be run then.
          arguments: of the first call.
        """
        leaves, tree = jax.tree.flatten((arguments, {}))
        shapes = [(x.shape, str(x.dtype), str(x.sharding)) for x in leaves]
        path = self._path(f"{name} {shapes} {tree}")
        if (found := _read(path)) is not None:
            with contextlib.suppress(Exception):  # of another JAX's form, say
                payload, results = found
                program = serialize_executable.deserialize_and_load(
                    payload,
                    tree,
                    jax.tree.structure(results),
                    execution_devices=jax.devices()[:1],
                )
                return _Loaded(program, path)
        lowered = function.lower(*arguments)
        with _no_other_cache():
            program = lowered.compile()
        with contextlib.suppress(Exception):  # a program that cannot be written
            payload, _, out_tree = serialize_executable.serialize(program)
            results = jax.tree.unflatten(out_tree, [0] * out_tree.num_leaves)
            _write(path, (payload, results))
        return program

    def _path(self, name: str) -> pathlib.Path:
        assert self._folder is not None
        return self._folder / hashlib.sha256(f"{self._key} {name}".encode()).hexdigest()


class _Loaded:
    """A loaded program. If its first call fails, the next start compiles it again."""

    def __init__(self, program: Callable[..., Any], path: pathlib.Path):
        self._program, self._path = program, path
        self._works = False

    def __call__(self, *arguments):
        if self._works:
            return self._program(*arguments)
        try:
            results = jax.block_until_ready(self._program(*arguments))
        except Exception:
            self._path.unlink(missing_ok=True)
            raise
        self._works = True
        return results


class _Program:
    """A function that is loaded, or compiled, when it is first called."""

    def __init__(self, kept: Kept, name: str, function: Any):
        self._kept, self._name, self._function = kept, name, function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments):
        if self._compiled is None:
            self._compiled = self._kept.compiled(self._name, self._function, arguments)
        return self._compiled(*arguments)


@contextlib.contextmanager
def _no_other_cache() -> Iterator[None]:
    """Compiles anew: XLA's CPU programs can be loaded once, not written and loaded again."""
    told: Any = jax.config
    before = told.jax_enable_compilation_cache
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        jax_cache.reset_cache()
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        jax_cache.reset_cache()


NOTHING = Kept(None, "")


def find(config) -> Kept:
    """Returns what is kept for a config: nothing where there is no cache of ours.

    Args:
      config: the training config.
    """
    told: Any = jax.config
    folder = compilation_cache.folder()
    if (
        told.jax_compilation_cache_dir != str(folder)
        or not told.jax_enable_compilation_cache
        or not _is_ours(config.task.get("modules", ()))
        or jax.process_count() > 1
        or jax.device_count() > 1
        or jax.default_backend() != "cpu"
    ):
        return NOTHING
    folder = folder / "steps"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return NOTHING
    return Kept(folder, _key(config))


def _key(config) -> str:
    settings = {
        name: value for name, value in jax.config.values.items() if "cache" not in name
    }
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_ENVIRONMENT) and "CACHE" not in name
    }
    parts = (
        config.to_json_best_effort(sort_keys=True),
        _source(),
        [importlib.metadata.version(name) for name in _VERSIONS],
        platform.python_version(),
        sorted(map(repr, settings.items())),
        sorted(environment.items()),
        repr(targets.rows()),
        jax.devices()[0].client.platform_version,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _is_ours(modules) -> bool:
    """Whether a config's modules are those of this project, so that `_source` has them."""
    for name in modules:
        spec = importlib.util.find_spec(name)
        path = pathlib.Path(spec.origin or "") if spec else pathlib.Path()
        if not any(_ROOT / ours in path.parents for ours in _OURS):
            return False
    return True


def _source() -> str:
    """Returns the digest of the project's code."""
    digest = hashlib.sha256()
    for path in sorted(p for name in _OURS for p in (_ROOT / name).rglob("*.py")):
        digest.update(f"{path.relative_to(_ROOT)} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(path: pathlib.Path) -> Any:
    """Returns what a file holds; None if there is none, or it is damaged."""
    try:
        data = path.read_bytes()
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        os.utime(path)  # used just now
        return pickle.loads(content)
    except Exception:  # noqa: BLE001  whatever is wrong, it can be made again
        return None


def _write(path: pathlib.Path, value: Any) -> None:
    """Writes a file whole, or not at all where the disk or the folder does not let it."""
    with contextlib.suppress(OSError, pickle.PicklingError, TypeError, AttributeError):
        content = pickle.dumps(value)
        durable.write_bytes(path, hashlib.sha256(content).digest() + content)
        _limit(path.parent)


def _limit(folder: pathlib.Path) -> None:
    """Removes what was used longest ago, until the rest is small enough."""
    found = [(path, path.stat()) for path in folder.iterdir()]
    found.sort(key=lambda item: item[1].st_mtime, reverse=True)
    total = 0
    for path, stat in found:
        total += stat.st_size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
