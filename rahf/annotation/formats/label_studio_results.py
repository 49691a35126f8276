"""The `result` of one annotation or prediction of Label Studio, in and out.

Written for this project's labelling interface (docs/annotate.md); others are read as
far as their labels have a meaning here.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from rahf import words
from rahf.annotation import pixels
from rahf.annotation.formats.label_names import LabelNames
from rahf.annotation.formats.marks import FIELDS, Marks
from rahf.datasets.ratings.consolidation import POINTS, WORDS

# Field -> label.
_LABELS = {
    "implausible_points": "implausible",
    "misaligned_points": "misaligned",
    WORDS: "misaligned",
}
# No pixels, characters or answers are more: it is a slip, or infinite.
_MOST = 10**9
# Regions that say where something is, but not by points.
_REGIONS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels")


def make_result(
    row: Mapping[str, Any], *, width: int, height: int
) -> list[dict[str, Any]]:
    """Returns the results that say what a line of a raters' file says.

    Points are in percent, words are spans of the prompt in characters. What Label
    Studio cannot say (which labels were asked for and not found, the last bit of a
    point) is in no result.

    Args:
      row: a valid line.
      width, height: the image's size in pixels.
    """
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    results = [_control("rater", "textarea", {"text": [str(row["rater"])]})]
    for field in POINTS:
        for x, y in row.get(field) or []:
            value = {"x": pixels.to_percent(x), "y": pixels.to_percent(y), "width": 1}
            value["keypointlabels"] = [_LABELS[field]]
            results.append(_control("points", "keypointlabels", value) | size)
    prompt = row.get("prompt") or ""
    spans = words.spans(prompt)
    for index in row.get(WORDS) or []:
        start, end = spans[index]
        value = {"start": start, "end": end, "text": prompt[start:end]}
        value["labels"] = [_LABELS[WORDS]]
        results.append(_control("words", "labels", value, to="prompt"))
    for name, answer in (row.get("scores") or {}).items():
        if answer is not None:
            results.append(_control(name, "rating", {"rating": answer}))
    for name, said in (
        ("nothing_wrong", all(row.get(field) == [] for field in FIELDS)),
        ("guess_shown", row.get("guess_shown")),
    ):
        if said:
            results.append(_control(name, "choices", {"choices": ["yes"]}))
    if isinstance(row.get("notes"), str):
        results.append(_control("comment", "textarea", {"text": [row["notes"]]}))
    return [{"id": f"r{n}"} | result for n, result in enumerate(results)]


def _control(name: str, kind: str, value: dict[str, Any], to: str = "image"):
    return {"from_name": name, "to_name": to, "type": kind, "value": value}


def is_same(results: Any, made: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether results still say what `make_result` made, whatever was added."""
    return (
        isinstance(results, list)
        and len(results) == len(made)
        and all(
            isinstance(one, dict)
            and all(one.get(k) == v for k, v in other.items() if k != "id")
            for one, other in zip(results, made, strict=True)
        )
    )


def read_result(results: Any, *, prompt: str, names: LabelNames) -> Marks:
    """Reads one person's results.

    Args:
      results: the decoded list.
      prompt: the text that spans refer to.
      names: what the labels mean.

    Raises:
      ValueError: a result is wrong; names it and what was expected.
    """
    marks = Marks()
    for number, result in enumerate(check_results(results)):
        try:
            _read_one(result, marks, prompt, names)
        except _Odd as error:
            raise ValueError(f"field 'result', entry {number}, {error}") from None
    return marks


def check_results(results: Any) -> list[Any]:
    """Returns the results of an annotation; raises ValueError if they are no list."""
    if not isinstance(results, list):
        raise ValueError(f"field 'result': expected a list, got {results!r:.60}")  # noqa: TRY004
    return results


def find_size(results: Any) -> tuple[float | None, float | None]:
    """Returns the size in pixels at which an image was labelled, or None twice.

    Raises:
      ValueError: the results are no list, or the size is none.
    """
    for number, result in enumerate(check_results(results)):
        sides = ("original_width", "original_height")
        size = [isinstance(result, dict) and result.get(side) for side in sides]
        if all(size):
            for side, length in zip(sides, size, strict=True):
                if not _is_length(length):
                    raise ValueError(
                        f"field 'result', entry {number}, field {side!r}: expected "
                        f"pixels, got {length!r:.60}"
                    )
            return size[0], size[1]
    return None, None


class _Odd(ValueError):
    """An entry is wrong; the message begins with the field."""


def _read_one(result: Any, marks: Marks, prompt: str, names: LabelNames) -> None:
    if not isinstance(result, dict):
        raise _Odd(f"expected an object, got {result!r:.60}")
    kind, control = result.get("type"), str(result.get("from_name"))
    value = result.get("value")
    if not isinstance(value, dict):
        marks.ignored[f"{kind} {control!r}"] += 1  # a relation
        return
    score = names.find_score(control)
    try:
        if kind == "keypointlabels":
            _read_points(result, value, marks, names)
        elif kind == "labels" and _is_text(value):
            _read_words(value, marks, prompt, names)
        elif kind in ("rating", "number", "choices") and score:
            marks.scores[score] = _answer(value, kind)
        elif kind == "choices" and control in ("nothing_wrong", "guess_shown"):
            setattr(marks, control, bool(value.get("choices")))
        elif kind == "textarea" and control in ("rater", "comment", "notes"):
            text = value.get("text")
            lines = text if isinstance(text, list) else [text]
            if not all(isinstance(line, str) for line in lines):
                raise ValueError(f"field 'text': expected text, got {text!r:.60}")
            text = "\n".join(map(str, lines))
            setattr(marks, "rater" if control == "rater" else "comment", text)
        else:
            if kind in _REGIONS and any(map(names.is_known, _listed(value, kind))):
                raise ValueError(f"expected keypointlabels, got {kind}")
            marks.ignored[f"{kind} {control!r}"] += 1
    except (ValueError, TypeError) as error:
        raise _Odd(f"{kind} {control!r}: {error}") from None


def _read_points(result, value, marks: Marks, names: LabelNames) -> None:
    if result.get("image_rotation") not in (None, 0):
        raise ValueError(
            f"field 'image_rotation': expected 0, got {result['image_rotation']!r}; "
            "turn the image back in Label Studio, or turn its file and label it again"
        )
    shares = []
    for axis, side in (("x", "original_width"), ("y", "original_height")):
        percent, length = value.get(axis), result.get(side)
        if not _is_number(percent) or not 0 <= percent <= 100:
            raise ValueError(f"field {axis!r}: expected 0 to 100, got {percent!r:.60}")
        if not _is_length(length):
            raise ValueError(f"field {side!r}: expected pixels, got {length!r:.60}")
        shares.append(pixels.from_percent(percent, length))
    for label in _listed(value, "keypointlabels"):
        if field := names.find_points(label):
            marks.points[field].append(shares)


def _read_words(value, marks: Marks, prompt: str, names: LabelNames) -> None:
    if not [label for label in _listed(value, "labels") if names.find_words(label)]:
        return
    start, end = find_span(prompt, value["start"], value["end"], value.get("text"))
    hit = [n for n, (a, b) in enumerate(words.spans(prompt)) if a < end and start < b]
    if not hit:
        raise ValueError(f"span {start} to {end} has no word of the prompt {prompt!r}")
    marks.misaligned_words.update(hit)


def find_span(prompt: str, start: Any, end: Any, text: str | None) -> tuple[int, int]:
    """Returns a span of a prompt in characters.

    Label Studio counts characters today, and counted UTF-16 units before, which differ
    behind an emoji; the span's own text tells which. Without that, characters count.

    Raises:
      ValueError: the span is outside the prompt, or its text is not there.
    """
    for name, place in (("start", start), ("end", end)):
        given = float(place) if isinstance(place, str) and place.isdecimal() else place
        if not _is_number(given) or not 0 <= given <= _MOST:
            raise ValueError(
                f"field {name!r}: expected a character of the prompt, counted from 0, "
                f"got {place!r:.60}"
            )
    start, end = int(start), int(end)
    if start > end:
        raise ValueError(f"expected start <= end, got {start} and {end}")
    if text is None and end <= len(prompt):
        return start, end
    if prompt[start:end] == text:
        return start, end
    units = prompt.encode("utf-16-le")
    before = units[: 2 * start].decode("utf-16-le", "ignore")
    inside = units[2 * start : 2 * end].decode("utf-16-le", "ignore")
    if inside == text:
        return len(before), len(before) + len(inside)
    raise ValueError(
        f"span {start} to {end}: expected {text!r:.60} there, but the prompt is "
        f"{prompt!r:.200}"
    )


def _answer(value, kind: str) -> float:
    found = value.get(kind)
    if kind == "choices":
        if not isinstance(found, list) or len(found) != 1:
            raise ValueError(f"expected one choice, got {found!r:.60}")
        [found] = found
        if isinstance(found, str):
            with contextlib.suppress(ValueError):  # which is said below
                found = float(found)
        if isinstance(found, float) and found.is_integer():
            found = int(found)
    if not _is_number(found) or not abs(found) <= _MOST:
        raise ValueError(f"field {kind!r}: expected a number, got {found!r:.60}")
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_length(value: Any) -> TypeGuard[float]:
    return _is_number(value) and 0 < value <= _MOST


def _is_text(value: Mapping[str, Any]) -> bool:
    """Whether a span is one of text: audio has times in the same fields."""
    return "channel" not in value and "start" in value and "end" in value


def _listed(value: Mapping[str, Any], field: str) -> list[str]:
    found = value.get(field)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(
            f"field {field!r}: expected a list of labels, got {found!r:.60}"
        )
    return found
