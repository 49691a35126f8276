"""`--set=KEY=VALUE` of the eval binaries: evaluate a run on other data."""

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Any

from rahf import strict_json
from rahf.datasets.pick_a_pic_pairs import PickAPicOptions
from rahf.datasets.rated_images import RatedImagesOptions

#: Keys that cannot change, because the parameters depend on them.
OF_PARAMETERS = ("task.targets", "input.image_size", "input.vocabulary")
#: The keys of `config.input` that each dataset reads. A run on one dataset may be
#: evaluated on another, which its config does not mention.
DATASETS = {
    "scenes": ("difficulty", "train_examples", "train_seed"),
    "richhf": ("data_dir",),
    "consolidated": ("data_dir",),
    "captions": (
        *("train", "dev", "test", "window", "open_shards"),
        *("data_dir", "image", "caption"),
    ),
    "distilled": ("path", "dev_share", "targets"),
    "rated_images": tuple(f.name for f in dataclasses.fields(RatedImagesOptions)),
    "pick_a_pic": tuple(f.name for f in dataclasses.fields(PickAPicOptions)),
    "pairs_of_scenes": ("train_examples", "train_choices", "raters"),
}
#: Keys that the configs of older runs may lack.
_LATER = ("task.modules", "input.prompts", "input.bad_records", "input.bad_share")


def set_key(config, assignment: str) -> None:
    """Changes one key of `config.task` or `config.input`, to evaluate on other data.

    Args:
      config: a run's config; changed in place.
      assignment: `KEY=VALUE`; the value is parsed as JSON if possible, else text.

    Raises:
      ValueError: the key is unknown, the parameters depend on it, or the value has
        the wrong type.
    """
    key, _, text = assignment.partition("=")
    *parents, name = key.split(".")
    if not text or parents[:1] not in (["task"], ["input"]) or key in OF_PARAMETERS:
        raise ValueError(
            f"--set={assignment}: expected KEY=VALUE with a key of the config's task or "
            f"input, such as input.richhf.data_dir=DIR; the parameters depend on "
            f"{', '.join(OF_PARAMETERS)}, which cannot be set"
        )
    known = [*_leaves(config), *_LATER]
    known += [f"input.{part}.{x}" for part, names in DATASETS.items() for x in names]
    if key not in known:
        # A typo is close to the whole key; a bare name matches the last part.
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
    """Yields the keys of `task` and `input`, such as "input.scenes.difficulty"."""

    def walk(prefix: str, part: Any) -> Iterator[str]:
        for name, value in part.items():
            if hasattr(value, "items"):
                yield from walk(f"{prefix}.{name}", value)
            else:
                yield f"{prefix}.{name}"

    for name in ("task", "input"):
        yield from walk(name, config[name])
