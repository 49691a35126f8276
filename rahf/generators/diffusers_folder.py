"""The folder of a diffusers pipeline: what it holds, checked before anything is loaded.

model_index.json    {"_class_name": pipeline, component: [library, class], ...}
unet/, vae/, ...    a folder a component: config.json and weights, *.safetensors

Such a folder is what `DiffusionPipeline.save_pretrained` writes and `hf download` fetches.
"""

import dataclasses
import hashlib
import os
import pathlib
import re

from rahf import strict_json

INDEX_FILE = "model_index.json"
#: Weights that are pickles, or another format that is not read.
_OTHER_WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")
_SHARD = re.compile(r"-\d+-of-\d+")
#: Larger files are weights: of them the digest reads some pieces.
_SMALL, _PIECE, _PIECES = 2**21, 2**16, 16


@dataclasses.dataclass(frozen=True)
class PipelineFolder:
    """A folder that can be loaded.

    Attributes:
      path: the folder.
      pipeline: the name of the pipeline's class.
      components: (library, class) by name.
      absent: the names of the components that it does without.
      variant: "fp16" or another infix of the weights' names; None for plain names.
    """

    path: pathlib.Path
    pipeline: str
    components: dict[str, tuple[str, str]]
    absent: tuple[str, ...]
    variant: str | None

    def digest(self) -> str:
        """Returns a digest that a copy shares, and that fine-tuning changes.

        Of weights it reads the size and 16 pieces of 64 KiB: they may be 20 GB.
        """
        found = hashlib.sha256()
        names = (self.path / INDEX_FILE, *map(self.path.joinpath, self.components))
        for place in names:
            files = [place] if place.is_file() else place.rglob("*")
            for path in sorted(path for path in files if path.is_file()):
                if path.suffix in _OTHER_WEIGHTS:
                    continue  # not read
                size = path.stat().st_size
                found.update(f"{path.relative_to(self.path)} {size}\n".encode())
                with path.open("rb") as file:
                    if size <= _SMALL:
                        found.update(file.read())
                        continue
                    for index in range(_PIECES):
                        file.seek((size - _PIECE) * index // (_PIECES - 1))
                        found.update(file.read(_PIECE))
        return f"folder:{found.hexdigest()[:32]}"


def is_pipeline(folder: str | os.PathLike) -> bool:
    """Returns whether a folder claims to be that of a pipeline."""
    return (pathlib.Path(folder) / INDEX_FILE).is_file()


def read(folder: str | os.PathLike) -> PipelineFolder:
    """Reads what a folder holds.

    Raises:
      ValueError: there is no such folder, it is no pipeline's, it brings code of its
        own, or weights in another format than safetensors; says what to do.
    """
    path = pathlib.Path(folder)
    if not path.is_dir():
        raise ValueError(
            f"{folder}: no such folder. Nothing is downloaded: fetch the pipeline "
            "before, for example by `hf download NAME --local-dir DIR`"
        )
    index = _read_index(path / INDEX_FILE)
    components, absent = {}, []
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue  # a setting
        if value == [None, None]:
            absent.append(name)
            continue
        if not _names_a_class(value) or not re.fullmatch(r"\w+", name):
            raise _own_code(path, f"component {name!r} is {value!r}")
        library, class_name = value
        if (path / name / f"{library}.py").exists():
            raise _own_code(path, f"component {name!r} is in {name}/{library}.py")
        components[name] = (library, class_name)
    return PipelineFolder(
        path,
        index["_class_name"],
        components,
        tuple(absent),
        _variant(path, components),
    )


def _read_index(path: pathlib.Path) -> dict:
    if not path.is_file():
        raise ValueError(
            f"{path.parent}: expected the folder of a diffusers pipeline, but it has no "
            f"{INDEX_FILE}; save a single-file checkpoint as a folder first "
            "(from_single_file, then save_pretrained)"
        )
    try:
        index = strict_json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    named = index.get("_class_name") if isinstance(index, dict) else None
    if isinstance(named, list):
        raise _own_code(path.parent, f"its pipeline is {named!r}")
    if not isinstance(named, str) or not named.isidentifier():
        raise ValueError(
            f"{path}: expected the name of a pipeline as _class_name, got {named!r}"
        )
    return index


def _names_a_class(value: list) -> bool:
    return len(value) == 2 and all(
        isinstance(part, str) and part.isidentifier() for part in value
    )


def _own_code(path: pathlib.Path, what: str) -> ValueError:
    return ValueError(
        f"{path} brings code of its own, which is never run: {what}; expected classes of "
        "diffusers and transformers"
    )


def _variant(path: pathlib.Path, components: dict[str, tuple[str, str]]) -> str | None:
    """Returns the variant that every component has, unless all have plain weights."""
    found: list[set[str | None]] = []
    for name in components:
        files = sorted((path / name).glob("*"))
        weights = [file.name for file in files if file.suffix == ".safetensors"]
        others = [file.name for file in files if file.suffix in _OTHER_WEIGHTS]
        if others and not weights:
            raise ValueError(
                f"{path / name}: expected weights as .safetensors, found only "
                f"{', '.join(others[:3])}, which may run code when they are read; load "
                "the pipeline where you trust it, and save_pretrained it again"
            )
        if weights:
            found.append({_infix(file) for file in weights})
    if not found:
        raise ValueError(f"{path}: holds no weights; was its download interrupted?")
    variants = sorted({infix for each in found for infix in each if infix})
    for variant in (None, *variants):
        if all(each & {variant, None} for each in found):
            return variant
    raise ValueError(
        f"{path}: no variant of the weights is there for all components: "
        + ", ".join(variants)
    )


def _infix(name: str) -> str | None:
    """model.fp16-00001-of-00002.safetensors -> fp16."""
    parts = _SHARD.sub("", name).split(".")
    return parts[1] if len(parts) == 3 else None
