"""A workdir: its config and vocabulary, and a lock for one run at a time.

    config.json            the whole config; "segments" lists what changed on the way
    vocabulary.model       the SentencePiece model the run was trained with
    checkpoints/<step>/    Orbax: parameters, optimizer, step, data positions
    metrics.jsonl          a line per logged step
    image_features_<step>.npz   how far an image is from the training images
    events.*               the same for TensorBoard

See `rahf.checkpoints.changes` for what a resumed run may change, and
`rahf.checkpoints.restore` for finding and reading steps.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections

from rahf import storage, strict_json
from rahf.checkpoints import old_names
from rahf.checkpoints.processes import first_decides
from rahf.input import vocabulary

CONFIG_FILE = "config.json"
VOCABULARY_FILE = "vocabulary.model"
CHECKPOINTS = "checkpoints"
SEGMENTS = "segments"


def folder(workdir: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a workdir, in a bucket that of `epath`; see `rahf.storage`.

    Raises:
      ValueError: it is empty, such as an unset variable of a shell; or a URL that is
        not gs://.
    """
    return storage.place(workdir)


@contextlib.contextmanager
def kept_to_one_run(workdir: str | os.PathLike) -> Iterator[None]:
    """Locks a workdir while a run trains in it, for all of the run's processes.

    Raises:
      ValueError: another run trains there, or it is a file; raised in every process.
      OSError: the folder cannot be made or written to.
    """
    path = folder(workdir)
    if storage.is_local(path) and path.is_file():
        raise ValueError(f"{path} is a file; a workdir is a folder")
    try:
        os.fspath(path.absolute()).encode("utf-8")
    except UnicodeEncodeError as error:  # Orbax would find out after the first steps
        raise ValueError(
            f"{os.fspath(path)!a}: checkpoints are written to folders with names "
            "in UTF-8 only; choose another --workdir, or a UTF-8 locale (LANG=C.UTF-8)"
        ) from error
    with contextlib.ExitStack() as stack:
        first_decides(lambda: stack.enter_context(storage.locked(path, "training")))
        yield


def write_config(workdir: str | os.PathLike, config, segments=()) -> None:
    """Writes a new workdir's config.json and vocabulary.

    Args:
      workdir: the folder; made if it does not exist.
      config: the whole config.
      segments: see `rahf.checkpoints.changes`; those in the config by default.
    """
    path = folder(workdir)
    storage.make_folder(path)
    model = vocabulary.load(config.input.vocabulary).serialized()
    storage.write_bytes(path / VOCABULARY_FILE, model)
    rewrite_config(path, config, segments)


def rewrite_config(workdir: str | os.PathLike, config, segments) -> None:
    """Writes config.json of a resumed run, leaving its vocabulary unchanged."""
    content = json.loads(config.to_json_best_effort())
    if segments:
        content[SEGMENTS] = list(segments)
    storage.write_text(folder(workdir) / CONFIG_FILE, json.dumps(content, indent=2))


def read_config(workdir: str | os.PathLike) -> Any:
    """Reads a workdir's config.json.

    Raises:
      ValueError: it does not exist, so this is not a workdir, or it is not a config.
    """
    path = folder(workdir) / CONFIG_FILE
    try:
        data = storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{path} does not exist: {workdir} is not a workdir of rahf.bin.train "
            f"(expected {CONFIG_FILE}, {VOCABULARY_FILE} and checkpoints/)"
        ) from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if not data.strip():
        raise ValueError(f"{path} is empty; was a copy interrupted?")
    try:
        content = strict_json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (it begins with the bytes {data[:4].hex(' ')}); "
            f"save it as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    except strict_json.RepeatedKeyError as error:
        raise ValueError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    parts = content if isinstance(content, dict) else {}
    missing = [
        part
        for part in ("model", "input", "task")
        if not isinstance(parts.get(part), dict)
    ]
    if missing:
        raise ValueError(
            f"{path} is not the config of a run: expected a JSON object with "
            f"{', '.join(missing)}, got {str(content)[:40]}"
        )
    return ml_collections.ConfigDict(old_names.upgrade(content))


def check_vocabulary(config) -> None:
    """Raises ValueError if the embedding table has too few rows."""
    words = vocabulary.load(config.input.vocabulary)
    part = "model.t5" if "t5" in config.model else "model"
    rows = config.model.get("t5", config.model).vocab_size
    if words.size > rows:
        raise ValueError(
            f"config.{part}.vocab_size={rows} is less than the {words.size} ids of "
            f"{words.path}; use {-(-words.size // 128) * 128}, a multiple of 128"
        )


def check_same_vocabulary(workdir: str | os.PathLike, config) -> None:
    """Compares the bytes of the config's vocabulary with the workdir's.

    Raises:
      ValueError: they differ, so every id would mean something else, or the workdir's
        vocabulary is missing.
    """
    theirs = folder(workdir) / VOCABULARY_FILE
    if not theirs.exists():
        raise ValueError(
            f"{theirs}, the vocabulary of the run, is missing; was a copy interrupted?"
        )
    if not is_vocabulary_of(config, theirs):
        raise ValueError(
            f"config.input.vocabulary={config.input.vocabulary} is not the vocabulary "
            f"that {workdir} was trained with, so every id would mean something else; "
            f"set config.input.vocabulary={theirs}"
        )


def is_vocabulary_of(config, path: pathlib.Path) -> bool:
    """Whether a file holds the vocabulary of the config, whatever its name."""
    ours = vocabulary.load(config.input.vocabulary).serialized()
    return ours == storage.read_bytes(path)
