"""`--set=KEY=VALUE` of the binaries that evaluate: the data of a run, said anew."""

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Any

from rahf.datasets.files import strict_json
from rahf.datasets.rated_images import RatedImagesOptions

#: Keys that the parameters were made for.
OF_PARAMETERS = ("task.targets", "input.image_size", "input.vocabulary")
#: What the datasets read of `config.input`: a run on one may be measured on another,
#: of which its config says nothing.
DATASETS = {
    "scenes": ("difficulty", "train_examples"),
    "richhf": ("data_dir",),
    "consolidated": ("data_dir",),
    "captions": (
        *("train", "dev", "test", "window", "open_shards"),
        *("data_dir", "image", "caption"),
    ),
    "rated_images": tuple(f.name for f in dataclasses.fields(RatedImagesOptions)),
}
#: Keys that configs of older runs may lack.
_LATER = ("task.modules", "input.prompts", "input.bad_records", "input.bad_share")


def set_key(config, assignment: str) -> None:
    """Changes one key of `config.task` or `config.input` that says what is measured.

    Args:
      config: of a run, changed in place.
      assignment: `KEY=VALUE`; the value is read as JSON, or else as text.

    Raises:
      ValueError: the key is unknown, belongs to the parameters, or has values of
        another type.
    """
    key, _, text = assignment.partition("=")
    *parents, name = key.split(".")
    if not text or parents[:1] not in (["task"], ["input"]) or key in OF_PARAMETERS:
        raise ValueError(
            f"--set={assignment}: expected KEY=VALUE with a key of the config's task or "
            f"input, such as input.richhf.data_dir=DIR; {', '.join(OF_PARAMETERS)} "
            f"belong to the parameters"
        )
    known = [*_leaves(config), *_LATER]
    known += [f"input.{part}.{x}" for part, names in DATASETS.items() for x in names]
    if key not in known:
        # "dificulty" is near the whole key, "difficulty" alone near its last part.
        near = difflib.get_close_matches(key, known, 3, 0.75)
        near += [k for k in known if k.rpartition(".")[2] == name]
        choices = list(dict.fromkeys(near)) or sorted(
            {k for k in known if k.startswith(f"{parents[0]}.")}
        )
        raise ValueError(
            f"--set={assignment}: unknown key {key!r}; "
            f"{'did you mean' if near else 'known:'} {', '.join(choices)}"
            f"{'?' if near else ''}"
        )
    for parent in parents:
        if parent not in config:
            config[parent] = type(config)()
        config = config[parent]
    try:
        value: Any = strict_json.loads(text)
    except strict_json.RepeatedKeyError as error:
        raise ValueError(f"--set={assignment}: {error}") from error
    except ValueError:
        value = text
    try:
        config[name] = text if isinstance(config.get(name), str) else value
    except TypeError as error:
        raise ValueError(
            f"--set={assignment}: expected a value like {config.get(name)!r}"
        ) from error


def _leaves(config) -> Iterator[str]:
    """Yields "input.scenes.difficulty" and the like; of `task` and `input` alone."""

    def walk(prefix: str, part: Any) -> Iterator[str]:
        for name, value in part.items():
            if hasattr(value, "items"):
                yield from walk(f"{prefix}.{name}", value)
            else:
                yield f"{prefix}.{name}"

    for name in ("task", "input"):
        yield from walk(name, config[name])
