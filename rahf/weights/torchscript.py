"""The modules in a TorchScript archive, whose tensors are read and whose code is not.

Such an archive is a zip like that of a state dict, but its pickle describes modules,
objects of classes whose code lies beside it. Here every module is the same inert class
that keeps its attributes; nothing of the archive is run.
"""

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

#: What the classes of an archive's own modules begin with.
_PREFIX = "__torch__"
#: Functions that restore plain lists, of which the contents suffice.
_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")
_MOST = 10_000  # modules


class _ScriptedModule:
    """A module of any class: its attributes, without behaviour."""

    __slots__ = ("attributes",)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("a module's attributes are no dict")  # noqa: TRY004
        self.attributes = state


def is_scripted(archive: zipfile.ZipFile) -> bool:
    """Returns whether an archive holds modules with their code."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def find_class(module: str, name: str) -> Any:
    """Returns what stands for a name in the pickle of modules; None if unknown."""
    if module.split(".")[0] == _PREFIX:
        return _ScriptedModule
    if module == "torch.jit._pickle" and name in _LISTS:
        return _same
    return None


def _same(values: Any) -> Any:
    return values


def list_tensors(root: Any) -> dict[str, np.ndarray]:
    """Returns the tensors of a module and those within it, as a state dict has them.

    Args:
      root: what unpickling gave.

    Raises:
      ValueError: it is not a module, or has too many modules within.
    """
    if not isinstance(root, _ScriptedModule):
        raise ValueError(  # noqa: TRY004
            f"expected a TorchScript module, got {type(root).__name__}"
        )
    found: dict[str, np.ndarray] = {}
    waiting, visits = [("", root)], 0
    while waiting:
        prefix, module = waiting.pop()
        visits += 1
        if visits > _MOST:  # modules that contain each other never end
            raise ValueError(f"it has more than {_MOST:,} modules")
        attributes: Mapping[Any, Any] = getattr(module, "attributes", {})
        for name, value in attributes.items():
            if isinstance(value, _ScriptedModule):
                waiting.append((f"{prefix}{str(name)[:100]}.", value))
            elif isinstance(value, np.ndarray):
                found[f"{prefix}{str(name)[:100]}"] = value
    return found
