"""The logs of a run: metrics.jsonl, and the same numbers for TensorBoard."""

import contextlib
import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from rahf import storage
from rahf.checkpoints import changes
from rahf.storage.growing import GrowingFiles

METRICS_FILE = "metrics.jsonl"
SECONDS = "train/seconds"
#: The keys of a config by which TensorBoard compares runs.
_COMPARED = (
    *("seed", "training_steps", "task.name", "input.batch_size", "input.image_size"),
    *("model.", "optimizer.", "schedule.", "loss_weights."),
)


class MetricsLog:
    """Appends {"step": int, name: float, ...} lines and TensorBoard scalars.

    A resumed run removes the lines logged after its checkpoint, and a line that a
    killed process left half-written, so that each step appears once; earlier lines stay
    unchanged. Only the first process writes. "train/seconds" is the time since the first
    step, without the pauses between a run's starts.
    """

    def __init__(self, workdir, start_step: int):
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        self._files = GrowingFiles(storage.place(workdir), (METRICS_FILE,))
        path = self._files.folder / METRICS_FILE
        row = _cut_tail(path, start_step)
        last = row["step"]
        self._began = time.monotonic() - row.get(SECONDS, 0.0)
        if last < start_step:  # a line is written, and synced, before each checkpoint
            print(
                f"warning: {path} ends at step {last}, before the checkpoint of step "
                f"{start_step}: it was damaged or cut, and lines are missing",
                file=sys.stderr,
            )
        self._file = path.open("a", encoding="utf-8")
        with _without("torch"):  # whose 750 modules tensorboardX would load
            from tensorboardX import SummaryWriter  # here, since only training writes
        self._board = SummaryWriter(str(self._files.folder), purge_step=start_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        if not self._writes:
            return
        values = values | {SECONDS: time.monotonic() - self._began}
        values = {name: float(np.asarray(x)) for name, x in values.items()}
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self._board.flush()
        self._files.grown()

    def describe(self, step: int, config) -> None:
        """Gives TensorBoard the config as text, and what it compares runs by.

        Args:
          step: the step that the config holds from.
          config: the training config.
        """
        if not self._writes:
            return
        from tensorboardX.summary import hparams

        text = json.dumps(json.loads(config.to_json_best_effort()), indent=2)
        indented = text.replace("\n", "\n    ")
        self._board.add_text("config", f"    {indented}", step)
        chosen = {
            key: value
            for key, value in changes.flatten(config).items()
            if key.startswith(_COMPARED) and isinstance(value, str | bool | int | float)
        }
        best = {f"eval/{config.checkpoint.best_metric}": None, "train/loss": None}
        file: Any = self._board.file_writer
        for summary in hparams(chosen, best):
            file.add_summary(summary)
        self._board.flush()
        self._files.grown()

    def write_pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Gives TensorBoard pictures, uint8[H, W, 3] by name."""
        if not self._writes:
            return
        for name, picture in pictures.items():
            self._board.add_image(name, picture, step, dataformats="HWC")
        self._board.flush()
        self._files.grown()

    def sync(self) -> None:
        """Makes the lines outlast the machine; before a checkpoint, which does.

        Raises:
          OSError: they cannot be written.
        """
        if self._writes:
            os.fsync(self._file.fileno())
            self._files.flush()

    def close(self) -> None:
        if self._writes:
            self._file.close()
            self._board.close()
            self._files.close()


def read_metrics(workdir) -> list[dict]:
    """Returns the lines of a workdir's metrics.jsonl.

    An incomplete last line is skipped, any other damaged line with a warning.
    """
    path = storage.place(workdir) / METRICS_FILE
    lines = _lines(path)
    rows = [_parse(line) for line in lines]
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
        if row is None and line.endswith(b"\n"):
            logging.warning("%s: line %d is damaged; skipping it", path, number)
    return [row for row in rows if row is not None]


@contextlib.contextmanager
def _without(package: str) -> Iterator[None]:
    """Hides a package from the imports within, unless it is loaded already."""
    hide = package not in sys.modules
    if hide:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules[package]


def _cut_tail(path: pathlib.Path, start_step: int) -> dict:
    """Truncates the file after its last line of a step up to this one.

    Returns:
      That line, {"step": 0} if there is none.
    """
    lines, last = _lines(path), {"step": 0}
    while lines:
        row = _parse(lines[-1])
        if row is not None and row["step"] <= start_step:
            last = row
            break
        lines.pop()
    if path.exists():
        os.truncate(path, sum(map(len, lines)))
    if lines and not lines[-1].endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    return last


def _lines(path: pathlib.Path) -> list[bytes]:
    """Returns lines with their ends; splitlines also splits at other characters."""
    return io.BytesIO(storage.read_bytes(path)).readlines() if path.exists() else []


def _parse(line: bytes) -> dict | None:
    """Returns a line's content, or None if it is damaged."""
    try:
        row = json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
