"""The metrics of train steps, averaged between two lines of the log."""


class Meter:
    """Averages the metrics of train steps, exactly over examples, not over batches."""

    def __init__(self, counts_skipped: bool = False):
        """Begins; `counts_skipped` says whether the run may skip steps."""
        self._counts_skipped, self._skipped = counts_skipped, 0
        self._steps = 0
        self._totals: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def update(self, metrics) -> None:
        """Adds the metrics of one step, from `steps.make_train_step`."""
        self._steps += 1
        for name, value in metrics.items():
            if isinstance(value, dict):
                into = self._sums if name == "loss_sum" else self._counts
                for target, part in value.items():
                    into[target] = into.get(target, 0.0) + float(part)
            else:
                self._totals[name] = self._totals.get(name, 0.0) + float(value)

    def skip(self) -> None:
        """Counts a step that was not applied."""
        self._skipped += 1

    def take(self) -> dict[str, float]:
        """Returns the means since the last call, as "train/...", and resets them."""
        values = {f"train/{k}": v / self._steps for k, v in self._totals.items()}
        for target, total in self._sums.items():
            if self._counts[target]:
                values[f"train/loss/{target}"] = total / self._counts[target]
        if self._counts_skipped:
            values["train/skipped_steps"] = float(self._skipped)
        self.__init__(self._counts_skipped)
        return values
