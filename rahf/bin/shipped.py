"""The configs that come with rahf, found by name and listed."""

import ast
import difflib
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any


def shipped() -> dict[str, pathlib.Path]:
    """Returns the shipped configs by name."""
    found = importlib.util.find_spec("configs")
    folders = (found and found.submodule_search_locations) or ()
    paths = (path for folder in folders for path in pathlib.Path(folder).glob("*.py"))
    return {p.stem: p for p in sorted(paths) if not p.stem.startswith("_")}


def listing() -> str:
    """Returns the shipped configs, a line each with the docstring's first line."""
    lines = []
    for name, path in shipped().items():
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        lines.append(f"  {name:<20} {doc.partition(chr(10))[0]}")
    return "\n".join(lines)


def resolve(value: str) -> str:
    """Returns `path[:argument]` for a config given by path or by shipped name.

    Raises:
      ValueError: no file and no shipped config has this name.
    """
    name, colon, argument = value.partition(":")
    if pathlib.Path(name).is_file():
        return value
    known = shipped()
    if name in known:
        return f"{known[name]}{colon}{argument}"
    near = difflib.get_close_matches(pathlib.Path(name).stem, known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"no file or shipped config is named {value!r}; {hint}Shipped: "
        f"{', '.join(known)}"
    )


def load(value: str) -> Any:
    """Returns the config that `--config=value` names.

    Raises:
      ValueError: it does not exist, or it refuses the argument.
    """
    path, colon, argument = resolve(value).partition(":")
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--config={value}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument) if colon else module.get_config()


def keys(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a config by dotted name."""
    found = {}
    for name, value in config.items():
        nested = keys(value, f"{prefix}{name}.") if hasattr(value, "items") else None
        found |= {f"{prefix}{name}": value} if nested is None else nested
    return found


def resolve_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns a command line with its `--config` resolved to a path; see `resolve`."""
    found = list(arguments)
    for index, argument in enumerate(found):
        if argument == "--":
            break
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-config"):
            if equals:
                found[index] = f"{flag}={resolve(value)}"
            elif index + 1 < len(found):
                found[index + 1] = resolve(found[index + 1])
    return found
