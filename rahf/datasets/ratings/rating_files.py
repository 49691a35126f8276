"""Reads raters' files: each person's rating of each image.

A JSON-lines file holds one rating per line; only `image`, `rater` and one label are
required, and null is the same as absent:

    {"image": "cat.png",                   # a path inside the folder of images
     "prompt": "a yellow cat",             # the same in all lines of an image
     "rater": "r07",
     "implausible_points": [[0.25, 0.5]],  # x, y as fractions of width, height
     "misaligned_points": [],              # nothing found
     "misaligned_words": [1],              # indices into rahf.words.split(prompt)
     "scores": {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3},
     "seconds": 41.0,                      # time spent
     "split": "train",                     # train, dev or test
     "guess_shown": true,                  # the rater saw a model's guess
     "notes": "anything"}                  # ignored

A CSV or TSV file holds scores, one rating per row (`read_csv`).
"""

import dataclasses
import difflib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rahf import strict_json, words
from rahf.datasets.files.csv_table import SEPARATORS, StrictReader, TableError
from rahf.datasets.ratings import prompt_table
from rahf.datasets.ratings.consolidation import (
    LIKERT_POINTS,
    POINTS,
    SCORE_FIELDS,
    WORDS,
)
from rahf.datasets.splits import SPLITS

# The number of mistakes to list; the others are only counted.
_LISTED = 20


class RatingsError(ValueError):
    """Mistakes in a raters' file, each with its line and field."""

    def __init__(self, path: pathlib.Path, mistakes: list[str]):
        self.mistakes = mistakes
        listed = "\n".join(f"  {mistake}" for mistake in mistakes[:_LISTED])
        if more := len(mistakes) - _LISTED:
            listed += f"\n  and {more} more" if more > 0 else ""
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{path}: {count}\n{listed}")


@dataclasses.dataclass
class ImageRatings:
    """One image and all its ratings.

    Attributes:
      image: the path in the file.
      prompt: the prompt, None if no line has one.
      split: the split, None if no line has one.
      ratings: the ratings, as `rahf.datasets.ratings.consolidation` describes them.
    """

    image: str
    prompt: str | None
    split: str | None
    ratings: list[dict[str, Any]]


def read(
    path: str | pathlib.Path,
    *,
    columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] = (1, LIKERT_POINTS),
    prompts: str | pathlib.Path | None = None,
) -> list[ImageRatings]:
    """Reads a raters' file, by its suffix: `.csv`, `.tsv`, or else JSON lines.

    All ratings are held in memory, but no pictures.

    Args:
      path: the file.
      columns, scale: see `read_csv`; CSV only.
      prompts: a CSV file with the columns image and prompt, for lines without one.

    Returns:
      The images in the order of their first lines.

    Raises:
      RatingsError: the file has mistakes; names their lines and fields.
      ValueError: the file does not exist, or an option does not fit it.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected JSON lines or CSV")
    if path.suffix.lower() in SEPARATORS:
        images = read_csv(path, columns=columns or {}, scale=scale)
    elif columns:
        raise ValueError(f"{path}: columns can only be named for CSV files")
    else:
        images = read_jsonl(path)
    if prompts is not None:
        table = prompt_table.read(prompts)
        for image in images:
            if image.prompt is None:
                image.prompt = table.get(image.image)
    return images


def read_jsonl(path: pathlib.Path) -> list[ImageRatings]:
    """Reads JSON lines, as the module docstring describes them."""
    return _collect(path, _jsonl_rows(path))


def read_csv(
    path: pathlib.Path,
    *,
    columns: Mapping[str, str],
    scale: tuple[float, float] = (1, LIKERT_POINTS),
) -> list[ImageRatings]:
    """Reads a table of scores, without points or words.

    Args:
      path: a CSV or TSV file with a header.
      columns: column -> its content: `image`, `rater`, `prompt`, `split`, `seconds`
        or the name of a score. A column of such a name needs no entry; all others
        are ignored.
      scale: worst and best answer; they become 1 and 5.

    Returns:
      The images, as from `read`; an empty cell is an absent entry.
    """
    known = {"image", "rater", "prompt", "split", "seconds", *SCORE_FIELDS}
    if wrong := set(columns.values()) - known:
        raise ValueError(
            f"unknown content of columns: {', '.join(sorted(wrong))}; options: "
            f"{', '.join(sorted(known))}"
        )
    if not scale[0] < scale[1]:
        raise ValueError(f"scale={scale} must be (worst, best) with worst < best")
    return _collect(path, _csv_rows(path, columns, known, scale))


_Row = tuple[int, Callable[[], dict[str, Any]]]


def _collect(path: pathlib.Path, rows: Iterator[_Row]) -> list[ImageRatings]:
    """Groups lines by image; raises one error for all mistakes of the file."""
    images: dict[str, ImageRatings] = {}
    first: dict[str, int] = {}
    seen: dict[tuple[str, str], int] = {}
    mistakes = []
    for number, parse in rows:
        try:
            row = check_row(parse())
            name, rater = str(pathlib.PurePath(row.pop("image"))), row["rater"]
            if (name, rater) in seen:
                raise ValueError(
                    f"field 'rater': {rater!r} has already rated {name!r}, in line "
                    f"{seen[name, rater]}"
                )
            prompt, split = row.pop("prompt", None), row.pop("split", None)
            image = images.get(name)
            if image is None:
                image = images[name] = ImageRatings(name, prompt, split, [])
                first[name] = number
            for field, value in (("prompt", prompt), ("split", split)):
                known = getattr(image, field)
                if known != value:
                    raise ValueError(
                        f"field {field!r}: {_short(value)}, but line {first[name]} has "
                        f"{_short(known)} for the same image"
                    )
            seen[name, rater] = number
            image.ratings.append(row)
        except ValueError as error:
            mistakes.append(f"line {number}, {error}")
    if mistakes:
        raise RatingsError(path, mistakes)
    if not images:
        raise RatingsError(path, ["the file has no ratings"])
    return list(images.values())


def _jsonl_rows(path: pathlib.Path) -> Iterator[_Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, lambda line=line: _parse(line)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        row = strict_json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8: {error}") from error
    except RecursionError as error:
        raise ValueError("expected a rating, got JSON nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"expected JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, got {_short(row)}")  # noqa: TRY004
    return row


def _csv_rows(path, columns, known, scale) -> Iterator[_Row]:
    low, high = scale
    try:
        reader = StrictReader(path)
        head = reader.columns
        if absent := set(columns) - set(head):
            mistake = f"line 1: no column {sorted(absent)}; it has {head}"
            raise RatingsError(path, [mistake])
        plain = known - set(columns.values())  # a column named in `columns` wins
        named = {name: name for name in head if name in plain} | dict(columns)

        def parse(cells: dict[str, Any]) -> dict[str, Any]:
            row: dict[str, Any] = {}
            for column, field in named.items():
                if not (cell := (cells.get(column) or "").strip()):
                    continue
                if field not in (*SCORE_FIELDS, "seconds"):
                    row[field] = cell
                    continue
                try:
                    value = float(cell)
                except ValueError:
                    raise ValueError(
                        f"field {column!r}: expected a number, got {_short(cell)}"
                    ) from None
                if field == "seconds":
                    row[field] = value
                    continue
                if not low <= value <= high:
                    raise ValueError(
                        f"field {column!r}: expected {low:g} to {high:g}, got "
                        f"{value:g}; --scale sets the range"
                    )
                share = (value - low) / (high - low)
                scores = row.setdefault("scores", {})
                scores[field] = 1 + share * (LIKERT_POINTS - 1)
            return row

        for cells in reader:
            yield reader.line, lambda cells=cells: parse(cells)
    except TableError as error:
        raise RatingsError(path, [f"line {error.line}: {error.problem}"]) from error


def check_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row without nulls and notes; raises ValueError naming a wrong field."""
    row = {field: value for field, value in row.items() if value is not None}
    row.pop("notes", None)
    for field in row:
        if field not in _CHECKS:
            near = difflib.get_close_matches(field, _CHECKS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "put it into 'notes'"
            raise ValueError(f"field {_short(field)}: unknown; {hint}")
    for field in ("image", "rater"):
        if field not in row:
            raise ValueError(f"field {field!r}: missing")
    if not row.keys() & {*POINTS, WORDS, "scores"}:
        labels = ", ".join((*POINTS, WORDS, "scores"))
        raise ValueError(f"field 'scores': a rating needs one of {labels}")
    for field, value in row.items():
        try:
            row[field] = _CHECKS[field](value)
        except _Wrong as wrong:
            raise ValueError(
                f"field {field!r}: expected {wrong.expected}, got {_short(value)}"
            ) from None
    if row.get(WORDS):
        if "prompt" not in row:
            raise ValueError(f"field 'prompt': missing, but {WORDS!r} needs it")
        number = len(words.split(row["prompt"]))
        if max(row[WORDS]) >= number:
            raise ValueError(
                f"field {WORDS!r}: word {max(row[WORDS])} does not exist; the prompt "
                f"has {number} words, counted from 0"
            )
    return row


class _Wrong(Exception):
    def __init__(self, expected: str):
        self.expected = expected


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong("text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Wrong("text without lone surrogates") from None
    return value


def _prompt(value: Any) -> str:
    return value if value == "" else _text(value)


def _rater(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:d}" if abs(value) < 1 << 64 else _text(None)
    return _text(value)


def _image(value: Any) -> str:
    path = pathlib.PurePosixPath(_text(value).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in value or ":" in value[:3]:
        raise _Wrong("a path inside the folder of images")
    return value


def _split(value: Any) -> str:
    if value not in SPLITS:
        raise _Wrong(f"one of {', '.join(SPLITS)}")
    return value


def _number(value: Any, low: float, high: float) -> bool:
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    return whole and low <= value <= high  # NaN is not


def _points(value: Any) -> list[list[float]]:
    right = isinstance(value, list) and all(
        isinstance(point, list)
        and len(point) == 2
        and all(_number(share, 0, 1) for share in point)
        for point in value
    )
    if not right:
        raise _Wrong("[[x, y], ...], fractions of width and height from 0 to 1")
    return value


def _marks(value: Any) -> list[int]:
    right = isinstance(value, list) and all(
        isinstance(index, int) and _number(index, 0, math.inf) for index in value
    )
    if not right:
        raise _Wrong("a list of word numbers, counted from 0")
    return value


def _scores(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not value.keys() <= SCORE_FIELDS.keys():
        raise _Wrong(f"an object with some of {', '.join(SCORE_FIELDS)}")
    value = {name: answer for name, answer in value.items() if answer is not None}
    if not all(_number(answer, 1, LIKERT_POINTS) for answer in value.values()):
        raise _Wrong(f"answers from 1 to {LIKERT_POINTS}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _seconds(value: Any) -> float:
    if not _number(value, 0, 1e9):
        raise _Wrong("a number of seconds")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "image": _image,
    "prompt": _prompt,
    "rater": _rater,
    **dict.fromkeys(POINTS, _points),
    WORDS: _marks,
    "scores": _scores,
    "seconds": _seconds,
    "split": _split,
    "guess_shown": _flag,
}


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
