"""Label Studio's JSON: tasks to label, finished annotations in, ratings out.

The files are those of Label Studio's export and import "JSON", a list of tasks:

    [{"id": 1, "data": {"image": "cat.png", "prompt": "a yellow cat"},
      "annotations": [{"id": 1, "completed_by": 7, "was_cancelled": false,
                       "lead_time": 41.0, "result": [...]}],
      "predictions": [{"model_version": "x", "result": [...]}]}]

Exports of versions before 1.0 say `completions` for annotations. What is written keeps
the exact line of the raters' file in the `meta` of the result that names the rater, where
Label Studio's server leaves it; it counts as long as the results still say the same.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rahf import images, strict_json
from rahf.annotation.formats import label_studio_results as results
from rahf.annotation.formats.image_names import ImageNames
from rahf.annotation.formats.importing import Import
from rahf.annotation.formats.label_names import USUAL, LabelNames
from rahf.annotation.formats.marks import FIELDS, Marks
from rahf.annotation.formats.rated_rows import RatedRow
from rahf.annotation.records import RatingTask
from rahf.annotation.task_files import find_image
from rahf.datasets.splits import NAMES
from rahf.inference.job_sources import TableColumns

_META = "rahf"


def is_tasks(value: Any) -> bool:
    """Returns whether decoded JSON is a list of Label Studio's tasks."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and isinstance(value[0].get("data"), dict)
    )


def load(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the tasks of a file.

    Raises:
      ValueError: it is no such file.
    """
    try:
        tasks = strict_json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not is_tasks(tasks):
        raise ValueError(
            f'{path}: expected a list of tasks, [{{"data": {{...}}, "annotations": '
            f"[...]}}], got {json.dumps(tasks)[:60]}; export as JSON, not JSON-MIN"
        )
    return tasks


def read_tasks(
    path: pathlib.Path,
    tasks: list[dict[str, Any]],
    folder: pathlib.Path,
    columns: TableColumns,
    labels: LabelNames = USUAL,
) -> Iterator[tuple[RatingTask, int, int]]:
    """Yields (task, width, height in pixels) of each task, to be labelled here.

    The first of a task's predictions becomes the model's guess; annotations that it has
    already are left where they are.

    Args:
      path: the file, for messages.
      tasks: from `load`.
      folder: the folder of images.
      columns: the names of the fields in a task's data.
      labels: what the labels of predictions mean.

    Raises:
      ValueError: a task is wrong; names it.
    """
    names = ImageNames(folder)
    for number, task in enumerate(tasks, 1):
        try:
            data = _data(task)
            name = names.find(_image(data, columns))
            prompt = _text(data, columns.fields("prompt")) or ""
            split = _split(data)
            width, height = images.read_size(find_image(folder, name))
            guess = None
            for prediction in _list(task, "predictions")[:1]:
                said = _object(prediction, "a prediction").get("result")
                marks = results.read_result(said, prompt=prompt, names=labels)
                size = {"width": width, "height": height}
                guess = marks.to_feedback(prompt=prompt, **size)
        except ValueError as error:
            where = f"{path}, task {_id(task, number)}"
            raise ValueError(f"{where}: {error}") from error
        task = RatingTask(image=name, prompt=prompt, split=split, guess=guess)
        yield task, width, height


def read_annotations(path: pathlib.Path, found: Import) -> None:
    """Adds the finished annotations of a file to an import.

    Cancelled annotations, drafts and predictions are left out; of several annotations
    of a task by the same person, the latest counts.

    Raises:
      ValueError: the file is none of Label Studio's. Mistakes in it go to the import.
    """
    # [(position in the file, where, row, its labels if they are not in it)]
    parsed: list[tuple[tuple[int, int], str, dict[str, Any], Marks | None]] = []
    asked = set(found.options.fields or ())
    for number, task in enumerate(load(path), 1):
        where = f"task {_id(task, number)}"
        try:
            data = _data(task)
            annotations = _annotations(task)
            told = _fields(task)
        except ValueError as error:
            found.mistake(path, where, error)
            continue
        found.counts["tasks without an annotation"] += not annotations
        if found.options.fields is None:
            asked.update(told)
        latest: dict[str, Any] = {}
        for place, annotation in enumerate(annotations):
            here = f"{where}, annotation {_id(annotation, place + 1)}"
            try:
                read = _read_annotation(data, annotation, found)
            except ValueError as error:
                found.mistake(path, here, error)
                continue
            if read is None:
                continue
            row, marks, line = read
            when = str(annotation.get("updated_at") or annotation.get("created_at"))
            order = (line if isinstance(line, int) else len(parsed), place)
            entry = ((when, place), order, here, row, marks)
            rater = str(row["rater"])
            if rater in latest:
                found.counts["annotations replaced by later ones"] += 1
            latest[rater] = max(latest.get(rater, entry), entry, key=lambda e: e[0])
        parsed += [entry[1:] for entry in latest.values()]
    found.counts = +found.counts
    if found.options.fields is None:
        for *_, marks in parsed:
            asked |= marks.fields if marks else set()
    # Lines that were exported come back in the order that they had.
    for _, here, row, marks in sorted(parsed, key=lambda entry: entry[0]):
        if marks is None:
            found.add(path, here, row)
        else:
            found.add_marks(path, here, row, marks, asked)


def _read_annotation(
    data: Mapping[str, Any], annotation: Any, found: Import
) -> tuple[dict[str, Any], Marks | None, int | None] | None:
    """Returns a row, its labels if they are not in the row, and its line if known."""
    _object(annotation, "an annotation")
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        found.counts["skipped or cancelled annotations"] += 1
        return None
    options = found.options
    columns = TableColumns(image=options.image_column, prompt=options.prompt_column)
    result, split = annotation.get("result"), _split(data)
    name = found.find_image(_image(data, columns), *results.find_size(result))
    prompt = _text(data, columns.fields("prompt"))
    if prompt is None:
        prompt = options.prompts.get(name)
    if (kept := _exact(annotation, result, name, prompt)) is not None:
        return dict(kept["row"]), None, kept.get("line")
    marks = results.read_result(result, prompt=prompt or "", names=options.names)
    found.ignored.update(marks.ignored)
    row: dict[str, Any] = {"image": name, "rater": _rater(annotation, marks, options)}
    if prompt is not None:
        row["prompt"] = prompt
    if annotation.get("lead_time") is not None:
        row["seconds"] = annotation["lead_time"]
    if split is not None:
        row["split"] = split
    return row, marks, None


def _exact(annotation, result, name: str, prompt) -> Mapping[str, Any] | None:
    """Returns what `make_tasks` kept, if nobody has changed what it stands for."""
    if not (isinstance(result, list) and result and isinstance(result[0], dict)):
        return None
    kept = _meta(result[0])
    row, width, height = kept.get("row"), kept.get("width"), kept.get("height")
    if not (isinstance(row, dict) and width and height):
        return None
    if str(pathlib.PurePath(str(row.get("image")))) != str(pathlib.PurePath(name)):
        return None
    if (row.get("prompt") or "") != (prompt or ""):
        return None
    if row.get("seconds") != annotation.get("lead_time"):
        return None
    try:
        made = results.make_result(row, width=width, height=height)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
        return None  # it is no line any more
    return kept if results.is_same(result, made) else None


def _rater(annotation, marks: Marks, options) -> Any:
    if marks.rater:
        return marks.rater
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    by = options.rater if by is None else by
    if by is None:
        raise ValueError(
            "field 'completed_by': missing; say who it was with --rater=NAME"
        )
    if isinstance(by, bool) or not isinstance(by, str | int):
        raise ValueError(  # noqa: TRY004  the file is at fault, not the caller
            f"field 'completed_by': expected a number, a name or an object with 'id' "
            f"or 'email', got {by!r:.60}"
        )
    return str(by)


def make_tasks(
    ratings: Iterable[RatedRow], *, image_prefix: str = ""
) -> list[dict[str, Any]]:
    """Returns ratings as tasks with annotations, one task for each image.

    Args:
      ratings: of people and images.
      image_prefix: what comes before an image's path so that Label Studio finds it,
        such as "/data/local-files/?d=pictures/".

    Each annotation has no `completed_by`: Label Studio refuses people that it does not
    know. The rater is in a text area of this name.
    """
    tasks: dict[str, dict[str, Any]] = {}
    for line, rating in enumerate(ratings):
        row = rating.row
        task = tasks.get(row["image"])
        if task is None:
            image = image_prefix + row["image"]
            # Label Studio refuses tasks without what the interface shows.
            data = {"image": image, "prompt": row.get("prompt") or ""}
            if row.get("split") is not None:
                data["split"] = row["split"]
            task = {"id": len(tasks) + 1, "data": data, "annotations": []}
            task |= {"predictions": [], "meta": {_META: {"fields": []}}}
            tasks[row["image"]] = task
        fields = task["meta"][_META]["fields"]
        fields += [f for f in FIELDS if row.get(f) is not None and f not in fields]
        size = {"width": rating.width, "height": rating.height}
        if rating.skipped is None:
            result = results.make_result(row, **size)
            result[0]["meta"] = {_META: {"line": line, "row": row} | size}
        else:
            result = results.make_result(row | {"notes": rating.skipped}, **size)
        task["annotations"].append(
            {
                "id": line + 1,
                "was_cancelled": rating.skipped is not None,
                "ground_truth": False,
                "lead_time": row.get("seconds"),
                "result": result,
            }
        )
    return list(tasks.values())


def _data(task: Any) -> dict[str, Any]:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        raise ValueError(f"field 'data': expected an object, got {data!r:.60}")  # noqa: TRY004
    return data


def _annotations(task: dict[str, Any]) -> list[Any]:
    return _list(task, "annotations" if "annotations" in task else "completions")


def _list(holder: dict[str, Any], field: str) -> list[Any]:
    listed = holder.get(field)
    if listed is not None and not isinstance(listed, list):
        raise ValueError(f"field {field!r}: expected a list, got {listed!r:.60}")
    return listed or []


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected {what} as an object, got {value!r:.60}")  # noqa: TRY004
    return value


def _fields(task: dict[str, Any]) -> list[str]:
    """Returns the labels that raters were asked for, if `make_tasks` kept them."""
    try:
        return [field for field in _list(_meta(task), "fields") if field in FIELDS]
    except ValueError as error:
        raise ValueError(f"field 'meta', {error}; or name them by --fields") from error


def _image(data: Mapping[str, Any], columns: TableColumns) -> str:
    names = columns.fields("image")
    if (found := _text(data, names)) is None:
        raise ValueError(
            f"field 'data': expected {' or '.join(map(repr, names))}, got "
            f"{', '.join(data) or 'nothing'}; --image_column names the image's field"
        )
    return found


def _text(data: Mapping[str, Any], names: Iterable[str]) -> str | None:
    found = next((data[name] for name in names if data.get(name) is not None), None)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"field 'data': expected text, got {found!r:.60}")
    return found


def _split(data: Mapping[str, Any]) -> str | None:
    given = data.get("split")
    if given is None:
        return None
    if str(given).lower() not in NAMES:
        raise ValueError(
            f"field 'split': expected one of {', '.join(NAMES)}, got {given!r:.60}"
        )
    return NAMES[str(given).lower()]


def _meta(holder: Mapping[str, Any]) -> dict[str, Any]:
    meta = holder.get("meta")
    found = meta.get(_META) if isinstance(meta, dict) else None
    return found if isinstance(found, dict) else {}


def _id(holder: Any, number: int) -> Any:
    return holder.get("id", number) if isinstance(holder, dict) else number
