"""The published label files and their records."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from rahf import targets
from rahf.datasets.richhf import PUBLISHED
from rahf.targets import Kind

_FEEDBACK = targets.select(targets.FEEDBACK)
#: Fields of the record, by kind of target.
MAPS = tuple(row.field for row in _FEEDBACK if row.kind is Kind.HEATMAP)
SCORES = tuple(row.field for row in _FEEDBACK if row.kind is Kind.SCORE)
(WORDS,) = (row.field for row in _FEEDBACK if row.kind is Kind.WORDS)

_POINTER = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True)
class Label:
    """The published labels of one image, not yet checked.

    Attributes:
      split: "train", "dev" or "test".
      index: the index in the label file, from 0.
      uid: the image's uid, which is the stem of `filename`; "" if there is none.
      filename: the published name, `<split>/<uid>.png`.
      maps: field -> encoded image, None if the feature is missing.
      scores: field -> score, None if the feature is missing.
      words: space-separated 0 (misaligned) and 1 (aligned), one per word; None if the
        feature is missing.
    """

    split: str
    index: int
    uid: str
    filename: str
    maps: Mapping[str, bytes | None]
    scores: Mapping[str, float | None]
    words: str | None

    @classmethod
    def from_example(cls, split: str, index: int, example: Any) -> "Label":
        """Reads a parsed `tf.train.Example`, or None for one that cannot be parsed."""
        features = {} if example is None else example.features.feature

        def first(name: str, kind: str) -> Any:
            feature = features.get(name)
            values = getattr(feature, kind).value if feature is not None else ()
            return values[0] if values else None

        def text(name: str) -> str | None:
            value = first(name, "bytes_list")
            return None if value is None else value.decode("utf-8", "replace")

        filename = text("filename") or ""
        return cls(
            split=split,
            index=index,
            uid=pathlib.PurePosixPath(filename).stem,
            filename=filename,
            maps={name: first(name, "bytes_list") for name in MAPS},
            scores={name: first(name, "float_list") for name in SCORES},
            words=text(WORDS),
        )


def label_files(folder: str, *, partial: bool = False) -> dict[str, str]:
    """Returns split -> path of the label files in a folder.

    Args:
      folder: the folder of train.tfrecord, dev.tfrecord and test.tfrecord; local, or
        on a file system that TensorFlow reads, such as gs://.
      partial: whether some of them may be missing.

    Raises:
      ValueError: a file is missing, or is a git-lfs pointer.
    """
    paths = {split: epath.Path(folder) / f"{split}.tfrecord" for split in PUBLISHED}
    missing = [str(path) for path in paths.values() if not path.exists()]
    if len(missing) == len(paths) or (missing and not partial):
        raise ValueError(
            f"--labels={folder} must hold {', '.join(p.name for p in paths.values())} "
            f"of RichHF-18K; missing: {', '.join(missing)}. Clone its repository with "
            "git-lfs, or pass --partial to build from the existing files"
        )
    found = {split: str(path) for split, path in paths.items() if path.exists()}
    for path in found.values():
        refuse_pointer(path)
    return found


def refuse_pointer(path: str) -> None:
    """Raises ValueError if a file is a git-lfs pointer."""
    file = epath.Path(path)
    with file.open("rb") as opened:
        head = opened.read(len(_POINTER))
    if head == _POINTER:
        folder = file.parent
        raise ValueError(
            f"{path} is a git-lfs pointer of {file.stat().length} bytes, not the file "
            "itself: the repository was cloned without git-lfs. Install "
            f"git-lfs, then run: git -C {folder} lfs install && "
            f"git -C {folder} lfs pull"
        )


def check_counts(counts: Mapping[str, int]) -> None:
    """Raises ValueError unless each split has as many records as were published."""
    wrong = {
        split: (number, PUBLISHED[split])
        for split, number in counts.items()
        if number != PUBLISHED[split]
    }
    if wrong:
        raise ValueError(
            "the label files differ from those published: "
            + ", ".join(
                f"{split}.tfrecord has {got:,} records instead of {expected:,}"
                for split, (got, expected) in wrong.items()
            )
            + ". Download them again, or pass --partial to build from them"
        )
