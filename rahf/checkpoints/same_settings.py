"""The processes of a run must have been given the same settings.

With other seeds, data or learning rates they would train together without a word, each
on its own idea of the run; with other batch sizes or steps they would wait for each
other for ever.
"""

import hashlib
import json
import os

import jax

from rahf.checkpoints import changes
from rahf.checkpoints.processes import gather
from rahf.input import vocabulary

#: What each host may have its own of, beside the paths of data, whose digests are
#: compared once they are known (`check_data`).
_OWN = ("input.workers", "input.cache")


def check(config, workdir: str | os.PathLike) -> None:
    """Compares the settings of all processes; each of them must call this.

    Raises:
      ValueError: they differ, in all processes; names the keys and their values.
    """
    if jax.process_count() == 1:
        return
    mine = describe(config, workdir)
    found = gather(hashlib.sha256(_encode(mine)).digest())
    if len(set(found)) == 1:
        return
    texts = gather(_encode(mine))
    differences = explain([json.loads(text) for text in texts])
    raise ValueError(
        f"the {len(texts)} processes of this run were started with different settings; "
        f"start all of them with the same command: {differences}"
    )


def check_data(digest: str | None) -> None:
    """Compares the digests of the training data of all processes, as `check` does."""
    if jax.process_count() == 1:
        return
    digests = gather((digest or "").encode())
    for index, other in enumerate(digests):
        if other != digests[0]:
            raise ValueError(
                f"process {index} of this run has other training data than process 0 "
                f"(digest {other.decode() or 'none'}, not {digests[0].decode() or 'none'}"
                "): files are missing on one of the machines, or differ"
            )


def describe(config, workdir: str | os.PathLike) -> dict[str, str]:
    """Returns what must be equal in all processes, as {"--config.seed": "0"}."""
    flat = changes.flatten(config)
    values = {
        f"--config.{key}": json.dumps(value)
        for key, value in flat.items()
        if key not in _OWN and not changes.is_path(key)
    }
    values["--config.input.vocabulary"] = _digest_of_vocabulary(config)
    where = os.fspath(workdir)
    values["--workdir"] = where if "://" in where else os.path.abspath(where)
    return values | {"version of jax": jax.__version__}


def explain(settings: list[dict[str, str]]) -> str:
    """Returns which settings differ, with the process that first has another value.

    Args:
      settings: the results of `describe`, by process.
    """
    first, lines = settings[0], []
    for key in sorted(set().union(*settings)):
        for index, each in enumerate(settings):
            if each.get(key) != first.get(key):
                there, here = (x.get(key, "missing") for x in (first, each))
                lines.append(f"{key}: {there} in process 0, {here} in process {index}")
                break
    return "; ".join(lines)


def _digest_of_vocabulary(config) -> str:
    """Returns a digest of its bytes; its path may be another on each host."""
    try:
        content = vocabulary.load(config.input.vocabulary).serialized()
    except (OSError, ValueError) as error:  # told to all, where only some have it
        return " ".join(str(error).split())
    return f"sha256 {hashlib.sha256(content).hexdigest()[:16]}"


def _encode(settings: dict[str, str]) -> bytes:
    return json.dumps(settings, sort_keys=True).encode()
