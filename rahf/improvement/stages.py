"""The stages of an improvement: each writes a folder, and knows when that is complete.

Interrupted, a stage goes on where it was; complete, it does nothing. A folder that was
made by other models, prompts or options is refused.
"""

import copy
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

import rahf
from rahf import durable
from rahf.applications import generating, mended_folder, mending
from rahf.applications.generating import GenerateRequest, Generator
from rahf.applications.predictions import json_line, read_predictions
from rahf.applications.selecting import SelectionRequest, select
from rahf.checkpoints import identity
from rahf.inference import stream
from rahf.inference.pictures import Pictures


class TrainedGenerator(Generator, Protocol):
    """A generator of a training run.

    Attributes:
      digest: of its parameters (`rahf.checkpoints.identity`).
      options: how it samples, a dataclass.
    """

    digest: str
    options: Any

    def tokens(self, images: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Returns the numbers of the tokens of each uint8[H, W, 3] image."""
        ...


@dataclasses.dataclass(frozen=True)
class Tools:
    """What the stages work with.

    Attributes:
      load: the workdir of a generator's run, or one step of it -> the generator.
      train: (config, workdir) -> trains, or goes on.
      draw: draws a yield curve, see `selecting.select`.
    """

    load: Callable[[str], TrainedGenerator]
    train: Callable[[Any, str], None]
    draw: Callable[..., None] | None = None


@functools.cache
def load_model(workdir: str, step: int | str | None = None):
    """Returns what `rahf.load` does; a model is loaded and compiled once."""
    return rahf.load(workdir, step)


def digest_of_model(workdir: str) -> str:
    """Returns a digest of a model's parameters."""
    predictor = load_model(workdir, None)
    return identity.digest_of(workdir, predictor.step, predictor.params)


def generate(
    tools: Tools,
    generator: str,
    prompts: Sequence[str],
    seeds: range,
    output: pathlib.Path,
    chosen_by: Sequence[str] = (),
) -> None:
    """Generates an image for each prompt and seed.

    Args:
      tools: the tools.
      generator: the workdir of the generator, or one step of it.
      prompts: the prompts.
      seeds: of each prompt.
      output: the folder.
      chosen_by: the digests of the models that chose what the generator learned from
        (`rahf.applications.choosers`).
    """
    loaded = tools.load(generator)
    chosen = {"chosen_by": list(chosen_by)} if chosen_by else {}
    request = GenerateRequest(
        prompts=prompts,
        output=str(output),
        samples=len(seeds),
        seed=seeds.start,
        made_by=_made_by(loaded) | chosen,
    )
    print(generating.write_images(request, loaded), flush=True)


def _made_by(generator: TrainedGenerator) -> dict[str, Any]:
    options = dataclasses.asdict(generator.options)
    return {"generator": generator.digest, "options": options}


def predict(model: str, images: pathlib.Path, output: pathlib.Path) -> None:
    """Predicts feedback on a folder of images; heatmaps are of the model's size."""
    options = stream.Options(pictures=Pictures("native", overlays=False))
    sources = stream.Sources([str(images)])
    _, said = stream.predict_folder(
        sources, str(output), model, options=options, load=load_model
    )
    print(said.splitlines()[0], flush=True)


def choose(tools: Tools, request: SelectionRequest) -> None:
    """Chooses images, or draws as many as would be chosen."""
    print(select(request, tools.draw).splitlines()[-1], flush=True)


def tune(
    tools: Tools, config, start: str, images: pathlib.Path, workdir: pathlib.Path
) -> None:
    """Trains a generator on from another one, on chosen images.

    Args:
      tools: the tools.
      config: such as configs/muse_scenes.py:folder, for as many steps as are wanted.
      start: the workdir of the other one, or one step of it.
      images: the folder of a selection.
      workdir: of the training run.
    """
    config = copy.deepcopy(config)
    config.init_from = start
    config.input.captions.train = str(images / "images")
    tools.train(config, str(workdir))


def mend(
    tools: Tools,
    generator: str,
    model: str,
    predictions: pathlib.Path,
    output: pathlib.Path,
) -> None:
    """Repaints what a model marks in images; see `rahf.bin.mend`."""
    loaded, predictor = tools.load(generator), load_model(model, None)
    request = mended_folder.MendRequest(
        predictions=[str(predictions)],
        output=str(output),
        options=mending.MendOptions(),
        made_by={"checkpoint": digest_of_model(model), **_made_by(loaded)},
    )
    print(mended_folder.write_mended(request, predictor.predict, loaded), flush=True)


def take_first(predictions: pathlib.Path, count: int, output: pathlib.Path) -> None:
    """Writes the lines of the first image of each prompt, of `count` prompts."""
    found = read_predictions([predictions])
    numbers, seen = [], set()
    for number, prompt in enumerate(found.prompts.tolist()):
        if prompt not in seen and len(seen) < count:
            seen.add(prompt)
            numbers.append(number)
    lines = b"".join(map(json_line, found.rows(numbers)))
    output.parent.mkdir(parents=True, exist_ok=True)
    if not output.exists() or output.read_bytes() != lines:
        durable.write_bytes(output, lines)


def keep_list(path: pathlib.Path, texts: Sequence[str]) -> None:
    """Writes a list of prompts, or checks that it is the one of this run.

    Raises:
      ValueError: it is another one.
    """
    text = "".join(json.dumps({"prompt": each}) + "\n" for each in texts)
    if not os.path.lexists(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(path, text)
    elif path.read_text("utf-8") != text:
        raise ValueError(
            f"{path} has other prompts than those asked for; give another --workdir"
        )
