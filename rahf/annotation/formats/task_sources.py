"""What is to be labelled, wherever it is listed."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping

from rahf import strict_json
from rahf.annotation import task_files
from rahf.annotation.formats import label_studio, predictions, tables
from rahf.annotation.formats.label_names import LabelNames
from rahf.annotation.records import RatingTask
from rahf.datasets.files.csv_table import SEPARATORS
from rahf.inference.job_sources import USUAL, TableColumns

#: The suffixes of files that list images.
SUFFIXES = (".jsonl", ".ndjson", ".json", *SEPARATORS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """How the list of images is read.

    Attributes:
      columns: the names of its fields, where they are not the usual ones.
      threshold: from this value on a peak of a predicted heatmap is a point of the
        model's guess.
      recursive: whether to search the subfolders of a folder.
      labels: what the labels of Label Studio's predictions mean (`LabelNames`).
    """

    columns: TableColumns = USUAL
    threshold: float = predictions.THRESHOLD
    recursive: bool = False
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


#: What `annotate serve` does without flags.
DEFAULT = TaskOptions()


def find_folder(source: str, folder: str | None) -> pathlib.Path:
    """Returns the folder of images: the given one, or else where the list is.

    Raises:
      ValueError: there is none, or the list is the output of predict, which is
        elsewhere than the images.
    """
    path = pathlib.Path(source)
    if not path.exists():
        raise ValueError(
            f"{source}: no such file or folder; expected a folder of images, the output "
            f"of predict, or one of {', '.join(SUFFIXES)}"
        )
    if folder is None and _find_predictions(path):
        raise ValueError(f"{source}: give the folder of the images, --images=DIR")
    found = pathlib.Path(folder or (path if path.is_dir() else path.parent))
    if not found.is_dir():
        raise ValueError(f"--images={folder}: no such folder")
    return found


def read_tasks(
    source: str, folder: pathlib.Path, options: TaskOptions = DEFAULT
) -> Iterator[tuple[RatingTask, int, int]]:
    """Yields (task, width, height in pixels) of each image of a list.

    Args:
      source: JSON lines or a JSON list as `task_files` has them; a CSV or TSV table;
        Label Studio's tasks, in JSON; the output of rahf.bin.predict, the folder or
        the file; or a folder of images, with or without prompts, as rahf.bin.predict
        reads it.
      folder: the folder of images, which none may leave.
      options: how to read it.

    Raises:
      ValueError: an entry is wrong; names the file and where in it.
      OSError: a file cannot be read.
    """
    path, columns = pathlib.Path(source), options.columns
    suffix = path.suffix.lower()
    if (found := _find_predictions(path)) is not None:
        return predictions.read_tasks(found, folder, threshold=options.threshold)
    if path.is_dir():
        recursive = options.recursive
        return tables.read_folder(path, folder, columns, recursive=recursive)
    if suffix in SEPARATORS:
        return tables.read_csv(path, folder, columns)
    if suffix == ".json" and _is_tasks(path):
        tasks = label_studio.load(path)
        names = LabelNames(options.labels)
        return label_studio.read_tasks(path, tasks, folder, columns, names)
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{source}: expected one of {', '.join(SUFFIXES)}, or a folder"
        )
    return task_files.read_tasks(path, folder, columns)


def _find_predictions(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of predictions that a path is or has, None if it has none."""
    if path.is_dir():
        inside = path / predictions.FILE
        return inside if inside.is_file() else None
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        return None
    with path.open("rb") as file:
        for line in itertools.islice(filter(bytes.strip, file), 1):
            try:
                return (
                    path if predictions.is_prediction(strict_json.loads(line)) else None
                )
            except (ValueError, RecursionError):  # whoever reads it says so
                return None
    return None


def _is_tasks(path: pathlib.Path) -> bool:
    try:
        return label_studio.is_tasks(strict_json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        return False
