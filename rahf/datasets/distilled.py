"""Pictures with a teacher's predictions as their labels: the folder and its records.

    DIR/teacher.json         whose predictions they are, of which pictures, how asked
    DIR/part-00000.arrow     rows: id, prompt, picture, scores, chances of words, maps
    DIR/complete.json        written last: the parts, their rows, what could not be read

`rahf.inference.teaching` writes such a folder. Rows are mapped into memory, so that any
number of them costs none, and processes share them.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rahf import images, strict_json, targets
from rahf.datasets.row_digest import digest_rows
from rahf.targets import Kind

TEACHER_FILE = "teacher.json"
COMPLETE_FILE = "complete.json"
#: The column of the chances of words.
CHANCES = "word_chances"
#: The column that says why a picture could not be read; such a row has nothing else.
ERROR = "error"
#: Ends the id of a mirrored picture.
MIRRORED = "#mirrored"
#: The targets that a student learns in place of one that a teacher predicts.
[WORDS] = targets.select(targets.FEEDBACK, Kind.WORDS)
[SOFT_WORDS] = targets.select(["soft_words"])
SPLITS = ("train", "dev")


@dataclasses.dataclass(frozen=True)
class DistilledOptions:
    """`config.input.distilled`.

    Attributes:
      path: the folder.
      dev_share: the share of prompts whose pictures are the split "dev", to measure a
        student against its teacher; the others are "train".
      targets: the targets whose labels records have.
    """

    path: str
    dev_share: float = 0.0
    targets: tuple[str, ...] = targets.FEEDBACK

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "DistilledOptions":
        """Reads `distilled` of `config.input`; raises ValueError where it is wrong."""
        given = dict(options.get("distilled") or {})
        if not given.get("path"):
            raise ValueError(
                "config.input.distilled.path is not set; expected the folder of a "
                "teacher's predictions that rahf.bin.distill made"
            )
        chosen = cls(
            str(given["path"]),
            float(given.get("dev_share", 0.0)),
            tuple(given.get("targets") or targets.FEEDBACK),
        )
        if not 0 <= chosen.dev_share < 1:
            raise ValueError(
                f"config.input.distilled.dev_share={chosen.dev_share} must be in [0, 1)"
            )
        return chosen


def distilled_records(split: str, options: Mapping[str, Any]) -> "Distilled":
    """Returns the records of a split, as configured in `config.input`.

    Raises:
      ValueError: no folder is named, it is not complete, or has no such split.
    """
    return Distilled.from_options(split, DistilledOptions.from_options(options))


class Distilled(Sequence[dict[str, Any]]):
    """The records of one split.

    A record has `uid`, `image` uint8[S, S, 3] of the teacher's size, `prompt`, maps
    float32[S, S] in [0, 1], scores, and of words both `prompt_misalignment_chance`
    float32[num_words], as the teacher said, and `prompt_misalignment_label`
    int8[num_words], as it would mark them. Words are missing where the prompt was
    longer than the teacher reads.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        parts: Sequence[tuple[str, int]],
        rows: np.ndarray,
        wanted: Sequence[str],
        digest: str,
    ):
        """Selects rows of a folder; `from_options` is the usual constructor."""
        self._folder, self._parts, self._rows = folder, tuple(parts), rows
        self._wanted, self._digest = tuple(wanted), digest
        self._starts = np.cumsum([0, *(count for _, count in self._parts)])
        self._tables: dict[int, Any] = {}

    @classmethod
    def from_options(cls, split: str, options: DistilledOptions) -> "Distilled":
        """Opens a folder; see `distilled_records`."""
        if split not in SPLITS:
            raise ValueError(
                f"a teacher's predictions have no split {split!r}; known: "
                f"{', '.join(SPLITS)}. To measure against people's labels, name a task "
                "that has them: --set=task.name=NAME"
            )
        folder = pathlib.Path(options.path)
        complete = read_complete(folder)
        parts = [(name, count) for name, count in complete["parts"]]
        digest = digest_rows([read_teacher(folder), complete, split, options.dev_share])
        none = np.zeros(0, np.int64)
        found = cls(folder, parts, none, options.targets, digest)
        found._rows = found._find(split, options.dev_share)
        if not len(found):
            raise ValueError(
                f"{folder}: none of the {sum(count for _, count in parts):,} pictures is "
                f"in the split {split!r} (config.input.distilled.dev_share="
                f"{options.dev_share:g} of the prompts are held out); to measure on a "
                "task with labels, set config.eval.task"
            )
        return found

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._row(int(self._rows[index]))
        record: dict[str, Any] = {
            "uid": row["id"],
            "image": images.read_image(row["image"]),
            "prompt": row["prompt"],
        }
        for target in targets.select(self._wanted):
            if target.kind is Kind.SCORE:
                record[target.field] = row[target.name]
            elif target.kind is Kind.HEATMAP:
                record[target.field] = unpack_map(row[target.name])
            elif row[CHANCES] is not None:
                chances = np.asarray(row[CHANCES], np.float32)
                record[SOFT_WORDS.field] = chances
                record[WORDS.field] = (chances <= 0.5).astype(np.int8)
        return record

    def digest(self) -> str:
        """Returns the SHA-256 of the teacher, the pictures and the rows it was asked."""
        return self._digest

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": {}}  # each process maps the files itself

    def _row(self, row: int) -> dict[str, Any]:
        part = int(np.searchsorted(self._starts, row, "right")) - 1
        table, row = self._table(part), row - int(self._starts[part])
        return table.slice(row, 1).to_pylist()[0]

    def _table(self, part: int) -> Any:
        table = self._tables.get(part)
        if table is None:
            name, count = self._parts[part]
            table = self._tables[part] = open_part(self._folder / name)
            if len(table) != count:
                raise ValueError(
                    f"{self._folder / name} has {len(table)} rows, but "
                    f"{COMPLETE_FILE} says {count}; remove the folder and run "
                    "rahf.bin.distill again"
                )
        return table

    def _find(self, split: str, dev_share: float) -> np.ndarray:
        """Returns int[n], the readable rows of a split; equal prompts are in one."""
        found = []
        for part, start in enumerate(self._starts[:-1]):
            table = self._table(part)
            kept = table.column(ERROR).is_null().to_numpy()
            if dev_share or split == "dev":
                prompts = table.column("prompt").to_pylist()
                limit = dev_share * 2**32
                dev = np.array([zlib.crc32(p.encode()) < limit for p in prompts], bool)
                kept = kept & (dev if split == "dev" else ~dev)
            found.append(start + np.flatnonzero(kept))
        return np.concatenate([np.zeros(0, np.int64), *found])


def read_teacher(folder: pathlib.Path) -> dict[str, Any]:
    """Returns whose predictions a folder holds, and how they were asked for.

    Raises:
      ValueError: the folder holds none.
    """
    return _read_json(folder / TEACHER_FILE, "holds no predictions of a teacher")


def read_complete(folder: pathlib.Path) -> dict[str, Any]:
    """Returns `{"parts": [[name, rows], ...], "unreadable": n, "cut": n}`.

    Raises:
      ValueError: the folder is not complete.
    """
    return _read_json(folder / COMPLETE_FILE, "is not complete")


def _read_json(path: pathlib.Path, problem: str) -> dict[str, Any]:
    try:
        found = strict_json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path.parent} {problem} (no {path.name}): run rahf.bin.distill, which "
            "goes on where it was stopped"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    return found


def open_part(path: pathlib.Path) -> Any:
    """Maps a part into memory; returns a `pyarrow.Table`.

    Raises:
      ValueError: it is missing or damaged.
    """
    import pyarrow as pa  # slow, and not needed by other datasets

    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); remove it and {COMPLETE_FILE}, and run "
            "rahf.bin.distill again"
        ) from error


def pack_map(heatmap: np.ndarray) -> bytes:
    """float32[S, S] in [0, 1] -> its 8-bit pixels, compressed."""
    return zlib.compress(images.to_bytes(heatmap).tobytes(), level=1)


def unpack_map(packed: bytes) -> np.ndarray:
    """Inverts `pack_map`, to within 1/510; float32[S, S]."""
    pixels = np.frombuffer(zlib.decompress(packed), np.uint8)
    side = round(len(pixels) ** 0.5)
    return pixels.reshape(side, side).astype(np.float32) / 255
