"""Saves and restores the steps of a run."""

import contextlib
import math
import sys
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from rahf import storage
from rahf.checkpoints import input_state as input_states
from rahf.checkpoints import restore
from rahf.checkpoints.checksums import DamagedError, write_checksums
from rahf.checkpoints.workdir import CHECKPOINTS, folder

#: Steps to keep if the config is older than the key. The last but one is a fallback,
#: should the newest be damaged.
KEEP_LATEST = 2


def find_whole_step(workdir) -> int | None:
    """Returns the newest undamaged step, or None if there are no steps.

    Damaged later steps are renamed to `checkpoints/<step>.damaged`, with a warning: the
    run will reach these steps again. Only one process may call this.

    Raises:
      ValueError: every step is damaged; none is renamed then.
    """
    damaged = []
    for step in reversed(restore.complete_steps(workdir)):
        path = folder(workdir) / CHECKPOINTS / str(step)
        try:
            restore.check_whole(path)
        except DamagedError as error:
            damaged.append((path, error))
            continue
        for each, error in damaged:
            aside = each.with_name(f"{each.name}.damaged")
            storage.move(each, aside)
            print(
                f"warning: {each} is damaged ({error}); renamed to {aside.name}, "
                f"resuming from step {step}",
                file=sys.stderr,
            )
        return step
    if damaged:
        path, error = damaged[0]
        raise ValueError(f"{restore.describe_damage(path)}: {error}")
    return None


class Checkpointer:
    """Saves asynchronously, keeping the latest steps, the best and each of some number."""

    def __init__(self, workdir, config):
        self._workdir = folder(workdir)
        self._folder = storage.absolute(self._workdir / CHECKPOINTS)
        c = config.checkpoint
        metric = c.best_metric

        def score(metrics: Any) -> float:
            # Steps from before `best_metric` was changed do not have it.
            return metrics.get(metric, -math.inf)

        latest = c.get("keep_latest", KEEP_LATEST)
        if latest < 1:
            raise ValueError(
                f"config.checkpoint.keep_latest={latest}: expected at least 1"
            )
        kept: list[Any] = [policies.LatestN(latest)]
        every, saved = c.get("keep_every", 0), c.every_steps
        if every < 0 or every % saved:
            raise ValueError(
                f"config.checkpoint.keep_every={every}: expected 0, or a multiple of "
                f"config.checkpoint.every_steps={saved}, the steps that are saved"
            )
        if every:
            kept.append(policies.EveryNSteps(every))
        if c.keep_best:
            kept.append(
                policies.BestN(
                    get_metric_fn=score,
                    n=c.keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._step, self._metric = 0, metric
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(kept),
                # Without it, Orbax does not write the metrics.
                best_fn=score,
                # Left by processes that were killed while saving.
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(
                    post_finalization_callback=self._before_commit
                ),
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the newest complete step, or None; half-written ones do not count."""
        return self._manager.latest_step()

    def save(self, step: int, state, input_state, metrics: dict[str, float]) -> None:
        """Starts writing a step; returns once the arrays are copied.

        The step counts once it is complete, with the data positions of all processes
        and its checksums; only then is an older one removed.

        Args:
          step: the number of steps taken.
          state: the train state.
          input_state: the position in the data, from the input's `get_state`.
          metrics: the metrics of an evaluation at this step; may be empty.

        Raises:
          OSError: this step or the previous one could not be written.
        """
        kept = (
            {self._metric: metrics[self._metric]} if self._metric in metrics else None
        )
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            input_state=input_states.InputStateSave(input_state),
        )
        with self._written():
            self._manager.wait_until_finished()
            if storage.has_vanished(self._folder):
                raise FileNotFoundError(
                    f"{self._folder} has vanished; was it deleted, or its disk unmounted?"
                )
            self._step = step
            self._manager.save(step, args=items, metrics=kept, force=True)

    def restore(self, abstract_state, step: int | None = None):
        """Reads a step.

        Args:
          abstract_state: shapes and shardings of the train state.
          step: the step; default the newest.

        Returns:
          (state, input_state).

        Raises:
          ValueError: a part of the step is missing or damaged.
        """
        step = self.latest_step() if step is None else step
        assert step is not None  # the caller has checked
        item = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        with restore.readable(self._folder / str(step)):
            input_state = input_states.read_input_state(self._workdir, step)
            return self._manager.restore(step, args=item)["state"], input_state

    def close(self) -> None:
        """Waits for the step that is being written.

        Raises:
          OSError: it could not be written.
        """
        with self._written():
            self._manager.wait_until_finished()
        self._manager.close()
        if jax.process_index() == 0:
            input_states.remove_old(
                self._workdir, restore.complete_steps(self._workdir)
            )

    def _before_commit(self) -> None:
        """Called in the first process once all files of a step are written."""
        # In a bucket Orbax writes to the step's folder itself, and a file at the end.
        begun = [*self._folder.glob(f"{self._step}.orbax-checkpoint-tmp*")]
        write_checksums(begun[0] if begun else self._folder / str(self._step))

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """Turns Orbax's errors, such as for a full disk, into a one-line OSError."""
        try:
            yield
        except storage.errors_of(self._folder) as error:
            why = " ".join(str(error).split())
            if "No space left" in why or "RESOURCE_EXHAUSTED" in why:
                why = "no space left on the disk"
            raise OSError(
                f"{self._folder / str(self._step)} cannot be written: {why[:300]}"
            ) from error
