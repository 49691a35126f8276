"""The training loop: batches in, checkpoints and curves out.

It knows no target, loss or metric by name: it passes on what the batch, the step and
the evaluation contain.
"""

import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from clu import parameter_overview
from tqdm import tqdm

from rahf.checkpoints import provenance, sessions
from rahf.checkpoints import workdir as workdirs
from rahf.checkpoints.checkpointer import Checkpointer
from rahf.checkpoints.metrics_log import MetricsLog
from rahf.checkpoints.processes import sum_over_processes
from rahf.checkpoints.resume import Start, find_start
from rahf.checkpoints.start import check_start, start_from
from rahf.models import sharding
from rahf.training import kept_steps
from rahf.training.exits import NonFiniteLossError, RunStopped
from rahf.training.feedback import make_learner
from rahf.training.meter import Meter
from rahf.training.signals import Signals
from rahf.training.stacks import Stacks, split_on_devices
from rahf.training.steps import join, make_stacks, make_state, make_train_step, split
from rahf.training.watch import INPUT, Watch

Evaluate = Callable[[Any], dict[str, float]]


class Display(Protocol):
    """What a run shows of its evaluations."""

    def table(self, step: int, results: dict[str, float]) -> str:
        """Returns what is printed of an evaluation's results."""
        ...

    def pictures(self, params) -> dict[str, np.ndarray]:
        """Returns pictures for TensorBoard, uint8[H, W, 3] by name."""
        ...


#: Minutes between checkpoints where the config has no `checkpoint.every_minutes`.
EVERY_MINUTES = 15.0


def train(
    config,
    workdir,
    train_input,
    evaluate: Evaluate | None = None,
    utilisation: Callable[[float], float] | None = None,
    display: Display | None = None,
) -> None:
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
      utilisation: examples per second -> the share of the devices' peak, logged beside
        them.
      display: shows each evaluation; its pictures only where one process trains.

    SIGTERM, SIGINT or SIGHUP, to any process, stops the run after the step, the evaluation or
    whatever else is going on, and saves it.

    Raises:
      RunStopped: a signal stopped the run, which is saved.
      ValueError: the batch does not divide among the devices, a number of steps is
        below 1, the workdir is another run's or in use, or `init_from` does not fit.
      NonFiniteLossError: a loss or gradient is not finite, more often in a row than
        `config.optimizer.skip_nonfinite` allows; names the step and targets.
      OSError: the workdir cannot be written to.
    """
    mesh = sharding.make_mesh(config)
    sharding.check_batch(config, mesh)
    _check_steps(config)
    workdirs.check_vocabulary(config)
    digest = getattr(train_input, "digest", lambda: None)
    with (
        Signals() as signals,
        workdirs.kept_to_one_run(workdir),
        sharding.use(mesh, config),
    ):
        start = find_start(workdir, config, digest)
        if start.step is not None and start.step >= config.training_steps:
            _say(
                f"nothing to do: step {start.step} of {config.training_steps}, "
                f"in {workdir}"
            )
            return
        with (
            Watch(signals) as watch,
            contextlib.closing(Checkpointer(workdir, config)) as checkpointer,
        ):
            run = _Run(
                config,
                workdir,
                mesh,
                train_input,
                evaluate,
                utilisation,
                display,
                checkpointer,
                watch,
                kept_steps.find(config),
            )
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
    for section, name in (
        ("checkpoint", "every_minutes"),
        ("optimizer", "skip_nonfinite"),
    ):
        if (value := config[section].get(name, 0)) < 0:
            raise ValueError(f"config.{section}.{name}={value}: expected at least 0")


@dataclasses.dataclass
class _Run:
    """One call of `train`, from its first step to the last."""

    config: Any
    workdir: Any
    mesh: jax.sharding.Mesh
    train_input: Any
    evaluate: Evaluate | None
    utilisation: Callable[[float], float] | None
    display: Display | None
    checkpointer: Checkpointer
    watch: Watch
    kept: kept_steps.Kept
    state: Any = None
    shardings: Any = None
    stacks: Stacks | None = None
    told_missing_best: bool = False
    skipped: int = 0  # steps in a row
    saved_at: float = 0.0
    logged: tuple[float, int] = (0.0, 0)  # when, and at which step

    def begin(self, start: Start) -> None:
        """Makes or restores the state, and writes the config."""
        config, workdir = self.config, self.workdir
        if start.step is None:
            check_start(config)
            self.state, self.shardings = make_state(config, self.mesh, kept=self.kept)
            params = make_learner(config).pretrained(self.state.params)
            self.state = dataclasses.replace(self.state, params=params)
            if config.get("init_from"):
                params = start_from(config, workdir, self.state.params)
                self.state = dataclasses.replace(self.state, params=params)
        else:
            shapes, self.shardings = make_state(
                config, self.mesh, abstract=True, kept=self.kept
            )
            self.state, input_state = self.checkpointer.restore(shapes, start.step)
            self.train_input.set_state(input_state)
        if jax.process_index() == 0:
            is_new = start.step is None
            if is_new:
                records = getattr(self.train_input, "records", lambda: None)()
                made = provenance.make(config, records)
                start.segments[0] |= {
                    provenance.KEY: made,
                    sessions.KEY: sessions.make(),
                }
            write = workdirs.write_config if is_new else workdirs.rewrite_config
            write(workdir, config, start.segments)
            _announce(config, workdir, self.mesh, self.state)
        self.stacks = make_stacks(config, self.mesh, kept=self.kept)
        self.state = join(self.state, self.stacks)

    def to_the_end(self) -> None:
        """Runs the remaining steps, logging, evaluating and saving on the way."""
        config = self.config
        step_fn = make_train_step(
            config, self.mesh, self.shardings, self.stacks, kept=self.kept
        )
        first, last = int(self.state.step), config.training_steps
        meter, pending = Meter(bool(config.optimizer.get("skip_nonfinite", 0))), None
        if reason := self.watch.stops_at(first):
            raise RunStopped(
                f"stopped by {reason} before step {first + 1} of {last}; the same "
                "command goes on"
            )
        with (
            contextlib.closing(MetricsLog(self.workdir, first)) as log,
            tqdm(
                total=last, initial=first, unit="step", disable=jax.process_index() != 0
            ) as bar,
        ):
            log.describe(first, config)
            self.saved_at = time.monotonic()
            self.logged = self.saved_at, first
            for step in range(first + 1, last + 1):
                self.watch.enter(INPUT)
                batch = sharding.put_batch(next(self.train_input), self.mesh)
                self.watch.enter("compiling" if step == first + 1 else "")
                self.state, metrics = step_fn(self.state, batch)
                if pending is not None:
                    self._record(meter, step - 1, pending)
                pending = metrics
                bar.update()
                reason = self.watch.stops_at(step) if step < last else None
                logs, saves, evaluates = (
                    step % part.every_steps == 0 or step == last
                    for part in (config.log, config.checkpoint, config.eval)
                )
                saves = saves or bool(reason)
                logs = logs or saves  # so that a log that was cut shows
                if not (logs or saves or evaluates):
                    continue
                self._record(meter, step, pending)
                pending, values = None, {}
                if logs:
                    values, is_due = self._values(meter, step)
                    saves = saves or is_due
                    bar.set_postfix(_in_short(values))
                results = self._measure(step, log) if evaluates else {}
                if row := values | {f"eval/{k}": v for k, v in results.items()}:
                    log.write(step, row)
                if saves:
                    log.sync()
                    self._save(step, results)
                if reason:
                    raise RunStopped(
                        f"stopped by {reason} at step {step} of {last}, saved in "
                        f"{self.workdir}; the same command goes on"
                    )
                if values:
                    self.logged = time.monotonic(), step
                    self.watch.take_input_wait()  # begins anew

    def _values(self, meter: Meter, step: int) -> tuple[dict[str, float], bool]:
        """Returns what to log since the last line, and whether it is time to save.

        The first process decides by its clock, beside the sums that are exchanged
        anyway.
        """
        now, (logged_at, logged_step) = time.monotonic(), self.logged
        values, config = meter.take(), self.config
        rate = (step - logged_step) / (now - logged_at)
        rate *= config.input.batch_size
        values["train/examples_per_second"] = rate
        if self.utilisation and jax.process_index() == 0:  # the one that logs
            values["train/utilisation"] = self.utilisation(rate)
        minutes = config.checkpoint.get("every_minutes", EVERY_MINUTES)
        is_due = jax.process_index() == 0 and 0 < minutes <= (now - self.saved_at) / 60
        mine = {
            "input_wait": self.watch.take_input_wait() / jax.process_count(),
            "is_due": float(is_due),
        }
        sums = sum_over_processes(self.train_input.metrics() | mine)
        is_due = sums.pop("is_due") > 0
        return values | {f"train/{name}": x for name, x in sums.items()}, is_due

    def _measure(self, step: int, log: MetricsLog) -> dict[str, float]:
        if self.evaluate is None:
            return {}
        self.watch.enter("evaluating")
        try:
            params = self._params()
            results = self.evaluate(params)
            if self.display and results and jax.process_index() == 0:
                tqdm.write(self.display.table(step, results), file=sys.stderr)
            if self.display and jax.process_count() == 1:
                log.write_pictures(step, self.display.pictures(params))
        except Exception:
            # Keep what was learned. With several processes this may be the only one
            # that failed, and saving needs all of them.
            if jax.process_count() == 1:
                self._save(step, {})
            raise
        self._tell_missing_best(step, results)
        return results

    def _params(self) -> Any:
        """Returns the parameters layer by layer."""
        if self.stacks is None:
            return self.state.params
        kept = functools.partial(split_on_devices, keep=True)
        return self.stacks.split_params(self.state.params, kept)

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
        self.watch.enter("saving")
        position = self.train_input.get_state()
        self.state = split(self.state, self.stacks)
        self.checkpointer.save(step, self.state, position, results)
        self.state = join(self.state, self.stacks)
        self.saved_at = time.monotonic()

    def _record(self, meter: Meter, step: int, metrics) -> None:
        """Adds the metrics of a step, or finds that it was not finite."""
        metrics = jax.device_get(metrics)
        if math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"]):
            self.skipped = 0
            meter.update(metrics)
            return
        self.skipped += 1
        allowed = self.config.optimizer.get("skip_nonfinite", 0)
        if self.skipped <= allowed:
            meter.skip()
            _say(f"warning: step {step}: {_describe(metrics)}: not applied")
            return
        many = f", {self.skipped} steps in a row" if allowed else ""
        raise NonFiniteLossError(
            f"step {step}: {_describe(metrics)}{many}; the last checkpoint predates it. "
            f"Lower config.schedule.peak or check the data"
        )


def _in_short(values: dict[str, float]) -> dict[str, str]:
    """Returns what the progress line shows of the metrics."""
    shown = {"loss": f"{values.get('train/loss', math.nan):.4f}"}
    shown["examples/s"] = f"{values['train/examples_per_second']:.4g}"
    if "train/utilisation" in values:
        shown["of peak"] = f"{values['train/utilisation']:.0%}"
    return shown


def _describe(metrics) -> str:
    """Returns what is not finite in the metrics of a step."""
    sums = metrics["loss_sum"]
    names = [name for name, value in sums.items() if not math.isfinite(value)]
    culprits = f"losses {names}" if names else "gradient, though every loss is finite"
    return (
        f"non-finite {culprits} (loss {metrics['loss']}, gradient norm "
        f"{metrics['gradient_norm']}, learning rate {metrics['learning_rate']:.2e})"
    )


def _announce(config, workdir, mesh, state) -> None:
    """Prints what is about to run."""
    _say(parameter_overview.get_parameter_overview(state.params, include_stats=False))
    count = sum(x.size for x in jax.tree.leaves(state.params))
    _say(
        f"{config.task.name}: {count:,} parameters on "
        f"{dict(mesh.shape)}, step {int(state.step)} of {config.training_steps}, "
        f"in {workdir}"
    )


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr)
