"""What imports of other tools' files share: options, mistakes, and what comes of them."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rahf import images
from rahf.annotation.formats.image_names import ImageNames
from rahf.annotation.formats.label_names import USUAL, LabelNames
from rahf.annotation.formats.marks import FIELDS, Marks
from rahf.annotation.task_files import find_image
from rahf.datasets.ratings.rating_files import RatingsError, check_row

# How much the aspect of an image may differ from what was labelled: rounding of small
# copies, but no other image.
_ASPECT = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How other tools' annotations are read.

    Attributes:
      images: the folder of images.
      rater: who made those annotations that do not say.
      names: what labels mean.
      fields: the labels that raters were asked for; where one is missing, nothing was
        found. None = those that the file declares or uses.
      prompts: image -> prompt, for those without one.
      image_column, prompt_column: the names of their fields; "" = the usual ones.

    Raises:
      ValueError: there is no such field.
    """

    images: pathlib.Path
    rater: str | None = None
    names: LabelNames = USUAL
    fields: Sequence[str] | None = None
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image_column: str = ""
    prompt_column: str = ""

    def __post_init__(self):
        if wrong := set(self.fields or ()) - set(FIELDS):
            raise ValueError(
                f"--fields={','.join(sorted(wrong))}: expected some of "
                f"{', '.join(FIELDS)}"
            )


class Import:
    """Collects lines of a raters' file, and everything that is wrong.

    Attributes:
      rows: the lines so far.
      counts: what was left out -> how often.
      ignored: entries without a place in a raters' file -> how often.
    """

    def __init__(self, options: ImportOptions):
        self.options = options
        self.names = ImageNames(options.images)
        self.rows: list[dict[str, Any]] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.ignored: collections.Counter[str] = collections.Counter()
        self._mistakes: dict[pathlib.Path, list[str]] = {}
        self._seen: dict[tuple[str, str], str] = {}
        self._first: dict[str, tuple[str, dict[str, Any]]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def mistake(self, path: pathlib.Path, where: str, problem: object) -> None:
        """Records that something in a file is wrong."""
        self._mistakes.setdefault(path, []).append(f"{where}, {problem}")

    def find_image(self, reference: str, width: Any, height: Any) -> str:
        """Returns the name of an image that was labelled at a size in pixels, or None.

        Raises:
          ValueError: there is no such file, or it has another shape.
        """
        name = self.names.find(reference)
        if width and height:
            if name not in self._sizes:
                path = find_image(self.options.images, name)
                self._sizes[name] = images.read_size(path)
            size = self._sizes[name]
            if abs(size[0] * height / (size[1] * width) - 1) > _ASPECT:
                raise ValueError(
                    f"image {name!r}: labelled at {width} x {height} pixels, but the "
                    f"file has {size[0]} x {size[1]}; is it another image?"
                )
        return name

    def add_marks(
        self,
        path: pathlib.Path,
        where: str,
        row: dict[str, Any],
        marks: Marks,
        asked: Collection[str],
    ) -> None:
        """Adds a line with these marks (`Marks.to_row`), unless it says nothing."""
        row = row | marks.to_row(asked)
        if row.keys() & {*FIELDS, "scores"}:
            self.add(path, where, row)
        else:
            self.counts["annotations without a label"] += 1

    def add(self, path: pathlib.Path, where: str, row: dict[str, Any]) -> None:
        """Adds a line; a mistake if it is none, or its rater has one for the image."""
        try:
            checked = check_row(row)
        except ValueError as error:
            return self.mistake(path, where, error)
        key = (str(pathlib.PurePath(checked["image"])), checked["rater"])
        if key in self._seen:
            return self.mistake(
                path,
                where,
                f"field 'rater': {key[1]!r} has already rated {key[0]!r}, in "
                f"{self._seen[key]}",
            )
        self._seen[key] = f"{path}, {where}"
        first, known = self._first.setdefault(key[0], (self._seen[key], checked))
        for field in ("prompt", "split"):
            if known.get(field) != checked.get(field):
                return self.mistake(
                    path,
                    where,
                    f"field {field!r}: {checked.get(field)!r:.60}, but {first} has "
                    f"{known.get(field)!r:.60} for the same image",
                )
        self.rows.append(row)
        return None

    def finish(self) -> "Import":
        """Returns itself.

        Raises:
          RatingsError: there were mistakes; lists those of the first file with any.
        """
        for path, mistakes in self._mistakes.items():
            raise RatingsError(path, mistakes)
        return self

    def to_lines(self) -> str:
        """Returns the raters' file."""
        return "".join(
            json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
            for row in self.rows
        )

    def summary(self) -> str:
        """Returns in words what was read and what was left out."""
        raters = {str(row["rater"]) for row in self.rows}
        pictures = {row["image"] for row in self.rows}
        text = (
            f"{len(self.rows)} ratings of {len(pictures)} images by {len(raters)} "
            "raters"
        )
        if self.counts:
            text += "; left out: " + ", ".join(
                f"{number} {what}" for what, number in sorted(self.counts.items())
            )
        if self.ignored:
            text += "; without a place in a raters' file: " + ", ".join(
                f"{number} {what}" for what, number in sorted(self.ignored.items())
            )
        return text
