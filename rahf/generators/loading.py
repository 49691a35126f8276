"""A folder -> the generator that it holds, of whichever kind."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Protocol

from rahf.generators import diffusers_folder

#: The options of each kind: `muse.sampling.SamplingOptions` and "step";
#: `diffusers_pipeline.PipelineOptions` and, in the second row, `PipelinePlacement`.
MUSE = ("step", "steps", "guidance", "order", "temperature")
PIPELINE = ("steps", "guidance", "negative_prompt", "strength", "size", "dtype")
PLACEMENT = ("device", "batch_size", "offload")


class LoadedGenerator(Protocol):
    """What is known of every generator here, beside `generate` and `inpaint`.

    Attributes:
      size: (height, width) of its images in pixels.
      options: what its images depend on, a dataclass.
      batch_size: how many images it makes at once.
      digest: of its parameters.
    """

    size: tuple[int, int]
    options: Any
    batch_size: int
    digest: str

    def generate(self, prompts, seeds) -> list: ...

    def inpaint(self, images, masks, prompts, seeds) -> list: ...


def load(
    folder: str | os.PathLike, given: Mapping[str, Any] | None = None
) -> LoadedGenerator:
    """Loads a run of configs/muse_scenes.py, or the folder of a pipeline of diffusers.

    Args:
      folder: the folder.
      given: the options that are not to be the generator's own; None counts as not given.

    Raises:
      ValueError: the folder holds neither, or the generator has no such option.
    """
    given = {k: v for k, v in (given or {}).items() if v is not None}
    is_pipeline = diffusers_folder.is_pipeline(folder)
    is_muse = not is_pipeline and (os.path.isdir(folder) or "://" in os.fspath(folder))
    known = MUSE if is_muse else (*PIPELINE, *PLACEMENT)
    unknown = [name for name in given if name not in known]
    if unknown and (is_muse or is_pipeline):
        kind = "a Muse" if is_muse else "a pipeline of diffusers"
        raise ValueError(
            f"{folder} is {kind}, which has no option {', '.join(unknown)}; it has "
            f"{', '.join(known)}"
        )
    if not is_muse:
        return _load_pipeline(folder, given)
    from rahf.generators.muse.generator import MuseGenerator
    from rahf.generators.muse.sampling import SamplingOptions

    step = given.pop("step", None)
    return MuseGenerator.load(folder, step, SamplingOptions(**given))


def _load_pipeline(folder, given: Mapping[str, Any]) -> LoadedGenerator:
    diffusers_folder.read(folder)  # its errors come before a slow import
    from rahf.generators.diffusers_pipeline import (
        DiffusersGenerator,
        PipelineOptions,
        PipelinePlacement,
    )

    # JAX would take three quarters of the GPU that it shares with PyTorch.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    pick = lambda names: {name: given[name] for name in names if name in given}
    return DiffusersGenerator.load(
        folder, PipelineOptions(**pick(PIPELINE)), PipelinePlacement(**pick(PLACEMENT))
    )


def describe(generator: LoadedGenerator) -> dict[str, Any]:
    """Returns what its images depend on, as JSON can hold it."""
    return {
        "generator": generator.digest,
        "options": dataclasses.asdict(generator.options),
    }
