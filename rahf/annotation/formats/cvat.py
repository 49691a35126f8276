"""CVAT's "CVAT for images 1.1" XML -> lines of a raters' file.

    <annotations>
      <version>1.1</version>
      <meta><task>...<labels><label><name>implausible</name></label></labels>
        <assignee><username>ann</username></assignee></task></meta>
      <image id="0" name="cat.png" width="640" height="480">
        <points label="implausible" points="160.00,240.00;12.50,3.00"/>
        <tag label="rating"><attribute name="plausibility">2</attribute></tag>
      </image>
    </annotations>

Points are in pixels. Attributes of any tag give scores (`plausibility`, ...),
`misaligned_words` (indices, "1 3"), `prompt`, `rater` and `comment`. Parsed by
defusedxml, which refuses the entities that make XML dangerous; needs the extra
`annotate`.
"""

import contextlib
import lzma
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from rahf import extras
from rahf.annotation import pixels
from rahf.annotation.formats.importing import Import
from rahf.annotation.formats.marks import Marks
from rahf.datasets.ratings.consolidation import WORDS

# The shapes that are no points.
_SHAPES = ("box", "polygon", "polyline", "ellipse", "cuboid", "mask", "skeleton")
_MEMBER = "annotations.xml"
# What a file may hold, some hundred thousand images; in memory it takes ten times that.
_MAX_BYTES = 2**28
# No image or prompt has a number with more of them.
_DIGITS = 9
# What archives raise that are cut off, changed, encrypted or packed in an unknown way.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, struct.error),
)


class _Refused(ValueError):
    """An archive that can be read, but is none of CVAT's."""


def read_annotations(path: pathlib.Path, found: Import) -> None:
    """Adds the annotations of a file to an import.

    Images without any annotation are left out: nobody has said anything about them.

    Args:
      path: the XML file, or the archive of an export with annotations.xml in it.
      found: the import, which gets mistakes too.

    Raises:
      ValueError: the file is none of CVAT's for images, or the extra is missing.
    """
    root = _parse(path)
    if root.find("track") is not None:
        raise ValueError(
            f"{path}: this is a video's (it has tracks); export as 'CVAT for images'"
        )
    people = _people(root)
    parsed: list[tuple[str, dict[str, Any], Marks]] = []
    for number, image in enumerate(root.iter("image")):
        name = image.get("name") or ""
        where = f"image {image.get('id', number)} ({name})"
        if not len(image):
            found.counts["images without an annotation"] += 1
            continue
        try:
            parsed.append((where, *_read_image(image, name, people, found)))
        except ValueError as error:
            found.mistake(path, where, error)
    asked = set(found.options.fields or ())
    if found.options.fields is None:
        asked |= _declared(root, found)
        for _, _, marks in parsed:
            asked |= marks.fields
    for where, row, marks in parsed:
        found.add_marks(path, where, row, marks, asked)


def _parse(path: pathlib.Path) -> Any:
    with extras.needing("annotate", "reading CVAT's XML"):
        from defusedxml import ElementTree
        from defusedxml.common import DefusedXmlException
    try:
        with _open(path) as file:
            root = ElementTree.parse(file).getroot()
    except (_Refused, PermissionError):
        raise  # it says enough
    except _DAMAGED as error:
        raise ValueError(
            f"{path}: cannot be read ({error or 'it ends too early'}): damaged, or "
            "encrypted; export it again, without a password"
        ) from error
    # ValueError and LookupError: of an encoding that Python does not have.
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as e:
        raise ValueError(
            f"{path}: not valid XML: {e!r}; export as 'CVAT for images 1.1'"
        ) from e
    if root is None or root.tag != "annotations" or root.find("image") is None:
        raise ValueError(
            f"{path}: expected <annotations> with <image>s in it, got <"
            f"{getattr(root, 'tag', '')}>; export as 'CVAT for images 1.1'"
        )
    return root


def _open(path: pathlib.Path) -> IO[bytes]:
    if not zipfile.is_zipfile(path):
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    try:
        member = archive.getinfo(_MEMBER)
    except KeyError:
        raise _Refused(f"{path}: expected {_MEMBER} in the archive") from None
    if member.file_size > _MAX_BYTES:
        raise _Refused(
            f"{path}: {_MEMBER} has {member.file_size} bytes, more than {_MAX_BYTES}; "
            "export fewer images at a time"
        )
    return archive.open(member)


def _people(root: Any) -> dict[str | None, str]:
    """Returns who a task was given to; None = the only one of the file."""
    people: dict[str | None, str] = {}
    for task in root.iter("task"):
        name = (task.findtext("assignee/username") or "").strip()
        if name:
            people[task.findtext("id")] = name
    for job in root.iter("job"):
        if name := (job.findtext("assignee/username") or "").strip():
            people[job.findtext("id")] = name
    if len(set(people.values())) == 1:
        people[None] = next(iter(people.values()))
    return people


def _declared(root: Any, found: Import) -> set[str]:
    """Returns the fields that the project's labels offer."""
    names, fields = found.options.names, set()
    for label in root.iterfind(".//labels/label"):
        if label.findtext("type") in (None, "any", "points"):
            with contextlib.suppress(ValueError):  # a label that is not used
                fields.add(names.find_points(label.findtext("name") or ""))
        attributes = {one.findtext("name") for one in label.iter("attribute")}
        fields |= {WORDS} & attributes
    return fields - {None}


def _read_image(
    image: Any, name: str, people: dict[str | None, str], found: Import
) -> tuple[dict[str, Any], Marks]:
    size = []
    for field in ("width", "height"):
        text = image.get(field) or ""
        if not text.isdecimal() or len(text) > _DIGITS or not int(text):
            raise ValueError(f"field {field!r}: expected pixels, got {text!r:.60}")
        size.append(int(text))
    file = found.find_image(name, *size)
    marks, prompt = Marks(), found.options.prompts.get(file)
    for element in image:
        if element.tag == "points":
            _read_points(element, size, marks, found)
        elif element.tag == "tag":
            prompt = _read_tag(element, marks, found) or prompt
        else:
            label = element.get("label") or ""
            if element.tag in _SHAPES and found.options.names.is_known(label):
                raise ValueError(
                    f"label {label!r}: expected points, got a {element.tag}"
                )
            found.ignored[f"{element.tag} {label!r}"] += 1
    rater = marks.rater or found.options.rater or people.get(image.get("task_id"))
    if rater is None:
        raise ValueError(
            "field 'rater': the file names no assignee; say who it was with "
            "--rater=NAME"
        )
    found.ignored.update(marks.ignored)
    row = {"image": file, "rater": rater}
    return (row if prompt is None else row | {"prompt": prompt}), marks


def _read_points(element: Any, size: list[int], marks: Marks, found: Import) -> None:
    label, text = element.get("label") or "", element.get("points") or ""
    field = found.options.names.find_points(label)
    if field is None:
        return
    for x, y in _pairs(label, text):
        if not (0 <= x <= size[0] and 0 <= y <= size[1]):
            raise ValueError(
                f"points {label!r}: {x:g},{y:g} is outside of {size[0]} x {size[1]}"
            )
        shares = [pixels.to_fraction(x, size[0]), pixels.to_fraction(y, size[1])]
        marks.points[field].append(shares)


def _pairs(label: str, text: str) -> Iterator[tuple[float, float]]:
    for pair in text.split(";"):
        try:
            x, y = map(float, pair.split(","))
        except ValueError:
            raise ValueError(
                f"points {label!r}: expected 'x,y;x,y', got {pair!r:.60}"
            ) from None
        yield x, y


def _read_tag(element: Any, marks: Marks, found: Import) -> str | None:
    """Reads the attributes of a tag into marks; returns the prompt if it has one."""
    prompt = None
    if element.get("label") == "nothing_wrong":
        marks.nothing_wrong = True
    for attribute in element.iter("attribute"):
        name = attribute.get("name") or ""
        text = (attribute.text or "").strip()
        if text in ("", "__undefined__"):  # CVAT's word for "not chosen"
            continue
        if score := found.options.names.find_score(name):
            value = _number(name, text)
            marks.scores[score] = int(value) if value.is_integer() else value
        elif name == WORDS:
            for one in text.replace(",", " ").split():
                if not one.isdecimal() or len(one) > _DIGITS:
                    raise ValueError(
                        f"attribute {name!r}: expected numbers of words, counted from "
                        f"0, got {one!r:.60}"
                    )
                marks.misaligned_words.add(int(one))
        elif name == "prompt":
            prompt = text
        elif name in ("rater", "comment"):
            setattr(marks, name, text)
        else:
            marks.ignored[f"attribute {name!r}"] += 1
    return prompt


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"attribute {name!r}: expected a number, got {text!r:.60}"
        ) from None
