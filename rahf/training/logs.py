"""What a run writes down: metrics.jsonl, and the same numbers for TensorBoard."""

import json

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from tensorboardX import SummaryWriter

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends {"step": int, name: float, ...} lines and TensorBoard scalars.

    A run that goes on from a checkpoint forgets what had been logged after it, so
    each step stands in the file once. Only the first process writes.
    """

    def __init__(self, workdir, start_step: int):
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        path = epath.Path(workdir) / METRICS_FILE
        lines = [x for x in read_metrics(workdir) if x["step"] <= start_step]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._file = path.open("a")
        self._board = SummaryWriter(str(workdir), purge_step=start_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        if not self._writes:
            return
        values = {name: float(np.asarray(x)) for name, x in values.items()}
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self._board.flush()

    def close(self) -> None:
        if self._writes:
            self._file.close()
            self._board.close()


def read_metrics(workdir) -> list[dict]:
    """The lines of a workdir's metrics.jsonl; a torn last line is left out."""
    path = epath.Path(workdir) / METRICS_FILE
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the process was killed in the middle of this line
    return rows


def sum_over_processes(values: dict[str, float]) -> dict[str, float]:
    """Adds up what each process counted; all must call it at the same step."""
    if jax.process_count() == 1 or not values:
        return values
    counts = np.array(list(values.values()), np.float32)
    total = multihost_utils.process_allgather(counts).sum(axis=0)
    return dict(zip(values, total.tolist(), strict=True))


class Meter:
    """Adds up the metrics of train steps: exact means over examples, not batches."""

    def __init__(self):
        self._steps = 0
        self._totals: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def update(self, metrics) -> None:
        """Takes the metrics of one step, as `steps.make_train_step` gives them."""
        self._steps += 1
        for name, value in metrics.items():
            if isinstance(value, dict):
                into = self._sums if name == "loss_sum" else self._counts
                for target, part in value.items():
                    into[target] = into.get(target, 0.0) + float(part)
            else:
                self._totals[name] = self._totals.get(name, 0.0) + float(value)

    def take(self) -> dict[str, float]:
        """The means since the last call, under "train/..."; starts anew."""
        values = {f"train/{k}": v / self._steps for k, v in self._totals.items()}
        for target, total in self._sums.items():
            if self._counts[target]:
                values[f"train/loss/{target}"] = total / self._counts[target]
        self.__init__()
        return values
