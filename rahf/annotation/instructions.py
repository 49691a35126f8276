"""What raters are told before they begin: a text, and examples with their answers.

An example is a line of a JSON-lines file; its image lies in that file's folder:

    {"image": "cat.png", "prompt": "a yellow cat", "note": "The tail is missing.",
     "label": {"implausible_points": [[50, 25]], "scores": {"plausibility": 2}}}

`label` is as `records.Feedback` has it, in pixels; it may lack anything.
"""

import dataclasses
import pathlib
from typing import Any

from rahf import images, strict_json
from rahf.annotation import task_files
from rahf.annotation.records import Feedback, describe_words
from rahf.datasets.ratings.consolidation import LIKERT_POINTS

#: Score -> what its worst and its best answer mean, in this project's words; what the
#: four are is the paper's (section 3).
ENDS = {
    "plausibility": ("badly broken", "nothing broken"),
    "alignment": ("shows something else", "shows all of the prompt"),
    "aesthetics": ("ugly", "beautiful"),
    "overall": ("very bad", "excellent"),
}
_GUIDE = pathlib.Path(__file__).with_name("guide")
_FIELDS = {"image", "prompt", "label", "note"}
# A text that raters read; also, a page sends none that is larger.
_LARGEST = 64 * 1024
_MOST = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One example.

    Attributes:
      image: its path in the folder of `Instructions.folder`.
      prompt: its prompt.
      label: what a rater should say.
      note: why.
      width, height: the image's size in pixels.
    """

    image: str
    prompt: str
    label: Feedback
    note: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Instructions:
    """What raters are told.

    Attributes:
      text: paragraphs, with `#`, `-`, `1.` and `**` as in Markdown and nothing more.
      examples: in their order.
      folder: the folder of their images.
    """

    text: str
    examples: tuple[Example, ...]
    folder: pathlib.Path

    def to_json(self) -> dict[str, Any]:
        """Returns what a page needs; examples' images are at `url`."""
        return {
            "markdown": self.text,
            "scores": {
                k: {"low": low, "high": high} for k, (low, high) in ENDS.items()
            },
            "scale": [1, LIKERT_POINTS],
            "radius": 1 / 20,
            "examples": [
                {
                    "url": f"/api/instructions/examples/{number}",
                    "width": example.width,
                    "height": example.height,
                    "prompt": example.prompt,
                    "words": describe_words(example.prompt),
                    "label": example.label.to_json(),
                    "note": example.note,
                }
                for number, example in enumerate(self.examples)
            ],
        }


def read(text: str | None = None, examples: str | None = None) -> Instructions:
    """Reads instructions and examples.

    Args:
      text: a file, None for the built-in one.
      examples: a file of JSON lines, None for the built-in ones, or for none with a
        text of one's own.

    Raises:
      ValueError: a file is wrong; says where, and what was expected.
      OSError: a file cannot be read.
    """
    written = _read_text(pathlib.Path(text or _GUIDE / "instructions.md"))
    if examples is None and text is not None:
        return Instructions(written, (), _GUIDE)
    path = pathlib.Path(examples or _GUIDE / "examples.jsonl")
    folder, found = path.parent.resolve(), []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                found.append(_parse(line, folder))
            except (ValueError, OSError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    if not 1 <= len(found) <= _MOST:
        raise ValueError(f"{path}: expected 1 to {_MOST} examples, got {len(found)}")
    return Instructions(written, tuple(found), folder)


def _read_text(path: pathlib.Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8 ({error})") from error
    if not text.strip() or len(data) > _LARGEST:
        raise ValueError(f"{path}: expected 1 to {_LARGEST} bytes, got {len(data)}")
    return text


def _parse(line: bytes, folder: pathlib.Path) -> Example:
    row = strict_json.loads(line.decode("utf-8-sig"))
    if not isinstance(row, dict) or not {"image", "label"} <= row.keys() <= _FIELDS:
        raise ValueError(
            f"expected an object with 'image', 'label' and maybe others of "
            f"{sorted(_FIELDS)}"
        )
    name, prompt, note = row["image"], row.get("prompt") or "", row.get("note") or ""
    if any(type(value) is not str for value in (name, prompt, note)):
        raise ValueError("expected 'image', 'prompt' and 'note' as text")
    width, height = images.read_size(task_files.find_image(folder, name))
    size = {"width": width, "height": height}
    label = Feedback.from_json(row["label"], prompt=prompt, complete=False, **size)
    return Example(image=name, prompt=prompt, label=label, note=note, **size)
