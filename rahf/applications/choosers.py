"""Which models had a hand in images: who chose, mended or rewarded them.

A model's scores of images that were chosen by its scores say little, so the judge must be
another one. What is known of a folder of images stands in its request.json:

    {"made_by": {"checkpoint": digest}}            rahf.bin.mend
    {"made_by": {"chosen_by": [digest, ...]}}      rahf.bin.generate, of a generator that was
                                                   tuned on what these models chose
    {"command": "select"}, with manifest.jsonl     rahf.bin.select; not if by chance

The digests are those of `rahf.checkpoints.identity`, as lines of predictions have them.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from rahf.applications.result_folder import REQUEST_FILE

MANIFEST_FILE = "manifest.jsonl"


@dataclasses.dataclass(frozen=True)
class Chooser:
    """A model that had a hand in images.

    Attributes:
      place: the file that says so.
      digest: of its parameters, "" if not known.
      checkpoint: its path and step, for people; "" if not known.
    """

    place: pathlib.Path
    digest: str = ""
    checkpoint: str = ""

    def is_model(self, made_by: Mapping[str, Any]) -> bool | None:
        """Whether this is the model of some predictions; None if that is not known.

        Args:
          made_by: the fields `checkpoint` and `checkpoint_digest` of their lines.
        """
        theirs = made_by.get("checkpoint_digest") or ""
        kinds = [digest.partition(":")[0] for digest in (self.digest, theirs)]
        if kinds[0] and kinds[0] == kinds[1]:
            return self.digest == theirs
        if self.checkpoint and made_by.get("checkpoint"):
            return self.checkpoint == made_by["checkpoint"]
        return None


def chosen_by(sources: Iterable[str]) -> dict[str, list[str]]:
    """Returns what a generator's folders say of what it learned from, for `made_by`.

    Args:
      sources: the folders or files of images that it learned from
        (`rahf.checkpoints.ancestry`).

    Returns:
      `{"chosen_by": digests}`, or {} if no model is known to have chosen them.
    """
    places = [
        os.path.join(source, "image") if os.path.isdir(source) else source
        for source in map(os.path.abspath, sources)
    ]
    digests = sorted({found.digest for found in find_choosers(places)} - {""})
    return {"chosen_by": digests} if digests else {}


def find_choosers(images: Iterable[str]) -> list[Chooser]:
    """Returns the models that had a hand in images, as far as their folders say.

    Args:
      images: absolute paths, or places in shards (`rahf.inference.image_places`).

    Raises:
      ValueError: a request.json or manifest.jsonl beside the images is damaged.
    """
    folders: dict[pathlib.Path, None] = {}
    for image in images:
        if "://" not in image:
            beside = pathlib.Path(image.partition("#")[0]).parent
            folders |= dict.fromkeys((beside, beside.parent))  # images/, shards/
    found: dict[Chooser, None] = {}
    for folder in folders:
        if (folder / REQUEST_FILE).is_file():
            found |= dict.fromkeys(_choosers_of(folder))
    return list(found)


def _choosers_of(folder: pathlib.Path) -> list[Chooser]:
    place = folder / REQUEST_FILE
    try:
        request = json.loads(place.read_text("utf-8"))
        if request.get("command") == "select":
            return [] if request.get("control") else [_of_manifest(folder)]
        made_by = request.get("made_by") or {}
        digests = [*(made_by.get("chosen_by") or ())]
        if made_by.get("checkpoint"):
            digests.append(made_by["checkpoint"])
        return [Chooser(place, str(digest)) for digest in digests]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{place}: expected what rahf wrote beside the images ({error!r})"
        ) from error


def _of_manifest(folder: pathlib.Path) -> Chooser:
    place = folder / MANIFEST_FILE
    with place.open(encoding="utf-8") as file:
        row = json.loads(file.readline())
    names = ("checkpoint_digest", "checkpoint")
    return Chooser(place, *(row.get(name) or "" for name in names))
