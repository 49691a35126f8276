"""The training loop: batches in, checkpoints and curves out.

It knows no target, loss or metric by name: it passes on what the batch, the step and
the evaluation contain.
"""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from clu import parameter_overview
from tqdm import tqdm

from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import Checkpointer
from rahf.checkpoints.metrics_log import MetricsLog
from rahf.checkpoints.processes import sum_over_processes
from rahf.checkpoints.resume import Start, find_start
from rahf.checkpoints.start import check_start, start_from
from rahf.models import sharding
from rahf.training.meter import Meter
from rahf.training.steps import make_state, make_train_step

Evaluate = Callable[[Any], dict[str, float]]


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the last checkpoint predates it."""


def train(config, workdir, train_input, evaluate: Evaluate | None = None) -> None:
    """Trains to `config.training_steps`, from the workdir's newest checkpoint.

    Without a checkpoint it starts from the parameters of `config.init_from`, or fresh.
    Called again with the same config, it resumes exactly at the checkpoint, including
    the position in the data; a finished run writes nothing. The metrics of a step are
    read only after the next one is dispatched, so that the host never delays the
    device.

    Args:
      config: the training config, see configs/scenes.py.
      workdir: the folder to write everything to.
      train_input: an iterator of batches with `get_state`, `set_state` and `metrics`,
        and optionally `digest`, the digest of its data.
      evaluate: params -> {"target/metric": value}, called every
        `config.eval.every_steps`.

    Raises:
      ValueError: the batch does not divide among the devices, a number of steps is
        below 1, the workdir is another run's or in use, or `init_from` does not fit.
      NonFiniteLossError: a loss or gradient is not finite; names the step and targets.
      OSError: the workdir cannot be written to.
    """
    mesh = sharding.make_mesh(config)
    sharding.check_batch(config, mesh)
    _check_steps(config)
    workdirs.check_vocabulary(config)
    digest = getattr(train_input, "digest", lambda: None)
    with workdirs.kept_to_one_run(workdir), sharding.use(mesh, config):
        start = find_start(workdir, config, digest)
        if start.step is not None and start.step >= config.training_steps:
            _say(
                f"nothing to do: step {start.step} of {config.training_steps}, "
                f"in {workdir}"
            )
            return
        with contextlib.closing(Checkpointer(workdir, config)) as checkpointer:
            run = _Run(config, workdir, mesh, train_input, evaluate, checkpointer)
            run.begin(start)
            run.to_the_end()


def _check_steps(config) -> None:
    if config.training_steps < 1:
        raise ValueError(
            f"config.training_steps={config.training_steps}: expected at least 1"
        )
    for name in ("log", "checkpoint", "eval"):
        if config[name].every_steps < 1:
            raise ValueError(
                f"config.{name}.every_steps={config[name].every_steps}: expected at "
                "least 1 (the last step is always included)"
            )


@dataclasses.dataclass
class _Run:
    """One call of `train`, from its first step to the last."""

    config: Any
    workdir: Any
    mesh: jax.sharding.Mesh
    train_input: Any
    evaluate: Evaluate | None
    checkpointer: Checkpointer
    state: Any = None
    shardings: Any = None
    told_missing_best: bool = False

    def begin(self, start: Start) -> None:
        """Makes or restores the state, and writes the config."""
        config, workdir = self.config, self.workdir
        if start.step is None:
            check_start(config)
            self.state, self.shardings = make_state(config, self.mesh)
            if config.get("init_from"):
                params = start_from(config, workdir, self.state.params)
                self.state = dataclasses.replace(self.state, params=params)
        else:
            shapes, self.shardings = make_state(config, self.mesh, abstract=True)
            self.state, input_state = self.checkpointer.restore(shapes)
            self.train_input.set_state(input_state)
        if jax.process_index() == 0:
            is_new = start.step is None
            write = workdirs.write_config if is_new else workdirs.rewrite_config
            write(workdir, config, start.segments)
            _announce(config, workdir, self.mesh, self.state)

    def to_the_end(self) -> None:
        """Runs the remaining steps, logging, evaluating and saving on the way."""
        config = self.config
        step_fn = make_train_step(config, self.mesh, self.shardings)
        first, last = int(self.state.step), config.training_steps
        meter, pending = Meter(), None
        with (
            contextlib.closing(MetricsLog(self.workdir, first)) as log,
            tqdm(
                total=last, initial=first, unit="step", disable=jax.process_index() != 0
            ) as progress,
        ):
            logged_at, logged_step = time.monotonic(), first
            for step in range(first + 1, last + 1):
                batch = sharding.put_batch(next(self.train_input), self.mesh)
                self.state, metrics = step_fn(self.state, batch)
                if pending is not None:
                    _record(meter, step - 1, pending)
                pending = metrics
                progress.update()
                logs, saves, evaluates = (
                    step % part.every_steps == 0 or step == last
                    for part in (config.log, config.checkpoint, config.eval)
                )
                if not (logs or saves or evaluates):
                    continue
                _record(meter, step, pending)
                pending, values = None, {}
                if logs:
                    values = meter.take()
                    rate = (step - logged_step) / (time.monotonic() - logged_at)
                    values["train/examples_per_second"] = rate * config.input.batch_size
                    counts = sum_over_processes(self.train_input.metrics())
                    values |= {f"train/{name}": count for name, count in counts.items()}
                    progress.set_postfix(loss=f"{values['train/loss']:.4f}")
                results = self._measure(step) if evaluates else {}
                log.write(step, values | {f"eval/{k}": v for k, v in results.items()})
                if saves:
                    self._save(step, results)
                if values:
                    logged_at, logged_step = time.monotonic(), step

    def _measure(self, step: int) -> dict[str, float]:
        if self.evaluate is None:
            return {}
        try:
            results = self.evaluate(self.state.params)
        except Exception:
            # Keep what was learned. With several processes this may be the only one
            # that failed, and saving needs all of them.
            if jax.process_count() == 1:
                self._save(step, {})
            raise
        self._tell_missing_best(step, results)
        return results

    def _tell_missing_best(self, step: int, results: dict[str, float]) -> None:
        """Says at the first evaluation where there is nothing to choose the best by."""
        c = self.config.checkpoint
        if c.keep_best and c.best_metric not in results and not self.told_missing_best:
            self.told_missing_best = True
            _say(
                f"warning: config.checkpoint.best_metric={c.best_metric} was not "
                f"measured at step {step} (has the {self.config.eval.split} split labels "
                "for it?); no best checkpoint is kept until it is, only the latest"
            )

    def _save(self, step: int, results: dict[str, float]) -> None:
        position = self.train_input.get_state()
        self.checkpointer.save(step, self.state, position, results)


def _record(meter: Meter, step: int, metrics) -> None:
    metrics = jax.device_get(metrics)
    if not math.isfinite(metrics["loss"]) or not math.isfinite(
        metrics["gradient_norm"]
    ):
        sums = metrics["loss_sum"]
        names = [name for name, value in sums.items() if not math.isfinite(value)]
        culprits = (
            f"losses {names}" if names else "gradient, though every loss is finite"
        )
        raise NonFiniteLossError(
            f"step {step}: non-finite {culprits} "
            f"(loss {metrics['loss']}, gradient norm {metrics['gradient_norm']}, "
            f"learning rate {metrics['learning_rate']:.2e}); the last checkpoint "
            f"predates it. Lower config.schedule.peak or check the data"
        )
    meter.update(metrics)


def _announce(config, workdir, mesh, state) -> None:
    """Prints what is about to run."""
    _say(parameter_overview.get_parameter_overview(state.params, include_stats=False))
    count = sum(x.size for x in jax.tree.leaves(state.params))
    _say(
        f"{config.task.name}, {config.model.variant}: {count:,} parameters on "
        f"{dict(mesh.shape)}, step {int(state.step)} of {config.training_steps}, "
        f"in {workdir}"
    )


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr)
