"""Checks on a model's folder before it is used: it may come from a stranger."""

import importlib
import importlib.machinery
import os
import pathlib
import pkgutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax

from rahf import storage, targets
from rahf.models.batch import example_batch
from rahf.models.rahf import make_model
from rahf.weights import matching


def check_modules(config, folder: str | os.PathLike) -> None:
    """Refuses a folder whose config names modules that must not be imported.

    Loading a model may import `config.task.modules`, which register a user's targets.
    Elsewhere on the Python path they are the user's own. Inside the folder, which may
    be on the path as (or below) the current directory, they are code that came with the
    download. Each name is resolved as the import system would, package by package, and
    nothing is executed. A module that is not found passes; importing it fails later, if
    it is needed.

    Raises:
      ValueError: a module is in the folder or Python's standard library, or its name is
        not a dotted identifier; names it.
    """
    names = config.task.get("modules", ())
    if not isinstance(names, list | tuple):
        raise ValueError(  # noqa: TRY004
            f"{folder}: its config.task.modules is {names!r}; expected a list of modules"
        )
    importlib.invalidate_caches()  # a file may be newer than the last look
    for name in names:
        _check_module(name, folder)


def _check_module(name: object, folder: str | os.PathLike) -> None:
    parts = name.split(".") if isinstance(name, str) else [""]
    if not all(part.isidentifier() for part in parts) or "__main__" in parts:
        raise ValueError(
            f"{folder}: its config.task.modules names {name!r}; expected a module such "
            "as 'my_package.my_targets'"
        )
    specs = list(_specs(parts))
    if parts[0] in sys.stdlib_module_names or any(map(_is_of_stdlib, specs)):
        raise ValueError(
            f"{folder}: its config.task.modules names {name!r}, which is part of "
            "Python's standard library and registers no targets"
        )
    for spec in specs:
        # A namespace package has no origin, and executes nothing.
        if spec.origin and spec.has_location and _is_inside(spec.origin, folder):
            raise ValueError(
                f"{folder}: its config.task.modules names {name!r}, which would be "
                f"imported from the folder itself ({spec.origin}); a model must not "
                "bring code. If it is yours, put it elsewhere on the Python path"
            )


def _specs(parts: Sequence[str]) -> Iterator[importlib.machinery.ModuleSpec]:
    """Yields the specs of what importing a dotted name would load, parents first."""
    path = None
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        spec = _find_spec(name, path)
        if spec is None and path is not None:
            # A parent may extend its path to its namesakes when it is executed.
            roots = (entry or os.getcwd() for entry in sys.path)
            spec = _find_in(name, [os.path.join(r, *parts[: count - 1]) for r in roots])
        if spec is None:
            return
        yield spec
        found = getattr(sys.modules.get(name), "__path__", None)
        path = list(found or spec.submodule_search_locations or ())


def _find_spec(
    name: str, path: Sequence[str] | None
) -> importlib.machinery.ModuleSpec | None:
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except KeyError:  # a namespace package whose parent is not imported
            spec = _find_in(name, path or sys.path)
        if spec is not None:
            return spec
    return None


def _find_in(name: str, path: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    """Finds a module as `importlib.machinery.PathFinder` does, without its parent."""
    portions = []
    for entry in path:
        finder = pkgutil.get_importer(entry or os.getcwd())
        spec = finder.find_spec(name) if finder else None
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec and spec.submodule_search_locations) or []
    if not portions:
        return None
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = portions
    return spec


def _is_of_stdlib(spec: importlib.machinery.ModuleSpec) -> bool:
    """Returns whether a module is in the standard library, listed or not (`test`)."""
    if not spec.has_location or not spec.origin:
        return False
    origin = pathlib.Path(spec.origin).resolve()
    library = pathlib.Path(sysconfig.get_path("stdlib")).resolve()
    return library in origin.parents and not any(
        part in ("site-packages", "dist-packages") for part in origin.parts
    )


def _is_inside(place: str, folder: str | os.PathLike) -> bool:
    """Returns whether a path, as spelled or with links resolved, is in a folder.

    Folders are compared by identity: another spelling, a link, or another case on a
    case-insensitive disk are the same.
    """
    if not storage.is_local(folder):
        return False  # Python imports nothing from a bucket
    paths = (pathlib.Path(os.path.abspath(place)), pathlib.Path(place).resolve())
    parents = {parent for path in paths for parent in path.parents}
    return any(p.exists() and os.path.samefile(p, folder) for p in parents)


def parameter_shapes(config) -> dict[str, tuple[int, ...]]:
    """Returns the flat shapes of a config's model; computes nothing."""
    model = make_model(config)
    init = lambda: nn.unbox(model.init(jax.random.key(0), example_batch(config)))
    shapes = jax.eval_shape(init)["params"]
    return {name: tuple(x.shape) for name, x in matching.flatten(shapes).items()}


def check_parameters(config, params, folder: str | os.PathLike) -> None:
    """Checks parameters against the model of the config beside them.

    Raises:
      ValueError: some are missing, unexpected, of another shape or not finite.
    """
    if not set(config.task.targets) <= {row.name for row in targets.rows()}:
        return  # a user's target is registered later; its head is unknown until then
    wanted = {
        name: jax.ShapeDtypeStruct(shape, "float32")
        for name, shape in parameter_shapes(config).items()
    }
    _, report = matching.match(
        wanted, matching.flatten(params), source=os.fspath(folder)
    )
    if odd := report.names("unexpected") + report.names("resized"):
        raise ValueError(
            f"{folder} does not fit its config.json: the model has no {odd[0]} of that "
            "shape"
        )
