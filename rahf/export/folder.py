"""Exports a checkpoint in forms that other software can use (docs/export.md)."""

import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax

from rahf import durable, targets
from rahf.checkpoints import feature_distance
from rahf.checkpoints.restore import restore_for_inference, split_step
from rahf.checkpoints.workdir import CONFIG_FILE, VOCABULARY_FILE
from rahf.export import model_card, stablehlo, standalone
from rahf.inference import intervals
from rahf.inference.predictor import Predictor
from rahf.input import vocabulary
from rahf.targets import Kind
from rahf.weights import export_layout, export_torch, exported, matching
from rahf.weights.export_layout import STATE_DICT_FILE
from rahf.weights.output import check_space, claimed, failures_told

CARD_FILE = "README.md"
PROGRAM_EXAMPLE_FILE = "predict.py"
#: The suffix of a file until all files are written.
_UNFINISHED = ".part"
#: Names of unfinished files, with the temporary ones of `rahf.durable.writing`.
_UNFINISHED_NAME = re.compile(r".+\.part|\..+\.part\..+")
#: The files an export may consist of, besides its config.
_FILES = {
    *(exported.PARAMS_FILE, STATE_DICT_FILE, stablehlo.PROGRAM_FILE),
    *(VOCABULARY_FILE, CARD_FILE, PROGRAM_EXAMPLE_FILE, intervals.FILE),
}

_USE_SAFETENSORS = """\
    import rahf
    predictor = rahf.load("this_folder")
    [prediction] = predictor.predict(["cat.png"], ["a red cat"])

The folder can take the place of a workdir: `--checkpoint=this_folder` of
`rahf.bin.predict` and of the `rahf.bin.eval_*` binaries. Or read `model.safetensors`
yourself: float32 arrays by path."""

_USE_RICHHF = f"""\
`{STATE_DICT_FILE}` is a state dict of the first author's PyTorch model, built with
`multi_heads=True` and a ViT and a T5 of this model's sizes:

    state = torch.load("{STATE_DICT_FILE}", weights_only=True)
    model.load_state_dict(state)

The names are those of transformers 4. In the config of the ViT, set
`hidden_act="{{act}}"` and `layer_norm_eps={{epsilon:g}}`. Its pooler, which is unused, is
zeros. Give the model {{prompts}}, tokenised by `{VOCABULARY_FILE}` (SentencePiece,
T5's conventions), without padding, which that model would attend to."""

_USE_STABLEHLO = f"""\
    pip install "jax>=0.10" numpy pillow safetensors sentencepiece
    python {PROGRAM_EXAMPLE_FILE} "a red cat" cat.png

`{stablehlo.PROGRAM_FILE}` is the predict function (`jax.export`); its arguments are the
parameters in `{exported.PARAMS_FILE}` and a batch of {{batch_size}}. It was lowered for
{{platforms}}. `{PROGRAM_EXAMPLE_FILE}` calls it, and shows how to make its inputs from
images and prompts. `rahf.load` reads the folder too."""


def export(
    workdir: str | os.PathLike,
    output: str | os.PathLike,
    *,
    form: str,
    step: int | str | None = None,
    licence: str = "unknown",
    batch_size: int = 1,
    platforms: tuple[str, ...] = stablehlo.PLATFORMS,
) -> pathlib.Path:
    """Exports a checkpoint.

    Args:
      workdir: the workdir of a training run, or an exported folder.
      output: the folder to write; must be new or empty.
      form: one of `FORMS`.
      step: a step, "latest" (default) or "best".
      licence: the licence of the weights, for the model card.
      batch_size: the batch size of the program, if `form` is "stablehlo".
      platforms: the platforms the program runs on, if `form` is "stablehlo".

    Returns:
      The folder. It is complete once it has config.json; a killed export leaves only
      files called *.part, which the next one overwrites.

    Raises:
      ValueError: the checkpoint does not exist, the folder is not empty or cannot be
        written to, or the format cannot hold this model.
    """
    if form not in FORMS:
        raise ValueError(f"--format={form!r}; expected one of {', '.join(FORMS)}")
    if not licence or set(licence) - _LICENCE_CHARACTERS:
        raise ValueError(
            f"--licence={licence!r}; expected an identifier such as apache-2.0, "
            f"cc-by-4.0 or unknown"
        )
    folder = pathlib.Path(output)
    _check_empty(folder)
    with claimed(folder, "an export"):
        _check_empty(folder)
        workdir, step = split_step(os.fspath(workdir), step)
        config, params, found = restore_for_inference(workdir, step)
        if learner := config.get("learner"):
            raise ValueError(
                f"{workdir}: expected a model of rich feedback, got one of "
                f"config.learner={learner!r}, for which there is no format"
            )
        check_space(folder, sum(x.nbytes for x in jax.tree.leaves(params)))
        predictor = Predictor(config, params, found)
        options = {"batch_size": batch_size, "platforms": platforms}
        files, usage = FORMS[form](predictor, params, options)
        summary = feature_distance.read(workdir, found, params)
        if summary is not None and exported.PARAMS_FILE in files:
            encoded = feature_distance.encode(summary, params)
            files[feature_distance.file_name(found)] = encoded
        calibration = intervals.encode_for(folder, workdir, found, params)
        if calibration is not None and exported.PARAMS_FILE in files:
            files[intervals.FILE] = calibration
        files[VOCABULARY_FILE] = vocabulary.load(config.input.vocabulary).serialized()
        files[CARD_FILE] = model_card.write(
            predictor, workdir, params=params, licence=licence, usage=usage
        )
        config = config.copy_and_resolve_references()
        config.input.vocabulary = VOCABULARY_FILE  # relative to the folder
        files[CONFIG_FILE] = config.to_json_best_effort(indent=2)
        with failures_told(folder):
            _write(folder, files)
    return folder


def _check_empty(folder: pathlib.Path) -> None:
    """Raises ValueError if a folder holds more than a killed export left behind."""
    with failures_told(folder):
        held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if others := held - _left_by_a_killed_export(held):
        raise ValueError(
            f"--output={folder} is not empty ({', '.join(sorted(others)[:3])}); choose "
            "a new folder"
        )


def _left_by_a_killed_export(held: set[str]) -> set[str]:
    """Returns the names that a killed export left behind."""
    left = {name for name in held if _UNFINISHED_NAME.fullmatch(name)}
    # The config is renamed last: while it is unfinished, so is the export.
    finished = set()
    if f"{CONFIG_FILE}{_UNFINISHED}" in held:
        named = feature_distance.FILE.fullmatch
        finished = {name for name in held if name in _FILES or named(name)}
    return left | finished | (held & {durable.LOCK_FILE})


_LICENCE_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._+"
)
#: File name -> its content, or a function that writes it to a path.
Files = dict[str, str | bytes | Callable[[pathlib.Path], None]]


def _safetensors(predictor, params, options) -> tuple[Files, str]:
    del options
    flat, step = matching.flatten(params), predictor.step
    write = lambda path: exported.write_params(path, flat, step)
    return {exported.PARAMS_FILE: write}, _USE_SAFETENSORS


def _stablehlo(predictor, params, options) -> tuple[Files, str]:
    files, _ = _safetensors(predictor, params, options)
    files[stablehlo.PROGRAM_FILE] = stablehlo.serialize(predictor, params, **options)
    files[PROGRAM_EXAMPLE_FILE] = pathlib.Path(standalone.__file__).read_text("utf-8")
    return files, _USE_STABLEHLO.format(
        batch_size=options["batch_size"], platforms=", ".join(options["platforms"])
    )


def _richhf(predictor, params, options) -> tuple[Files, str]:
    del options
    _check_fits_release(predictor)
    state = export_layout.to_release(matching.flatten(params))
    write = lambda path: export_torch.write_state_dict(path, state)
    config = predictor.config
    exact = config.model.vit.get("exact_gelu", False)
    whole = config.input.get("prompts", "whole") == "whole"
    return {STATE_DICT_FILE: write}, _USE_RICHHF.format(
        act="gelu" if exact else "gelu_pytorch_tanh",
        epsilon=config.model.vit.get("norm_epsilon", 1e-6),
        prompts="prompts as they are" if whole else "a prompt's words, one space apart",
    )


def _check_fits_release(predictor) -> None:
    """Raises ValueError if the PyTorch model would compute something else."""
    m = predictor.config.model
    wanted = {
        "variant": (m.variant, "multihead"),
        "heatmap_head.name": (m.heatmap_head.name, "paper"),
        "score_head.name": (m.score_head.name, "paper"),
        "decoder_attends": (m.decoder_attends, "prompt"),
        "word_presence": (m.get("word_presence", False), False),
        "vit.class_token": (m.vit.get("class_token", True), True),
        "vit.stem": (m.vit.get("stem", "patch"), "patch"),
    }
    wrong = [
        f"config.model.{key}={value!r}, not {needed!r}"
        for key, (value, needed) in wanted.items()
        if value != needed
    ]
    if wrong:
        raise ValueError(
            f"--format=richhf needs the first author's design: multi-head, the paper's "
            f"heads, a decoder that attends to the prompt; this model has "
            f"{'; '.join(wrong)}. Use --format=safetensors, or train with these values"
        )
    words = [row.name for row in targets.select(predictor.targets, Kind.WORDS)]
    if len(words) != 1:
        raise ValueError(
            f"--format=richhf needs exactly one target of kind words, but "
            f"config.task.targets has {len(words)}"
        )


#: Format -> function that returns its files and how to use them.
FORMS = {"safetensors": _safetensors, "richhf": _richhf, "stablehlo": _stablehlo}


def _write(folder: pathlib.Path, files: dict[str, Any]) -> None:
    """Writes all files under temporary names, then renames them, the config last.

    A failure leaves none of them behind.
    """
    held = {path.name for path in folder.iterdir()}
    for name in _left_by_a_killed_export(held) - {durable.LOCK_FILE}:
        (folder / name).unlink()
    parts = {name: folder / f"{name}{_UNFINISHED}" for name in files}
    try:
        for name, content in files.items():
            if callable(content):
                content(parts[name])
            else:
                data = content.encode() if isinstance(content, str) else content
                durable.write_bytes(parts[name], data)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise
    for name, part in parts.items():
        part.replace(folder / name)
    durable.sync_folder(folder)
