"""The training loop: batches in, checkpoints and curves out.

It knows no target, loss or metric by name; it moves whatever the batch, the step
and the evaluation bring.
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

from rahf.checkpoints.checkpoint import (
    Checkpointer,
    check_same_model,
    check_vocabulary,
    write_config,
)
from rahf.checkpoints.start import start_from
from rahf.models import sharding
from rahf.training.logs import Meter, MetricsLog, sum_over_processes
from rahf.training.steps import make_state, make_train_step

Evaluate = Callable[[Any], dict[str, float]]


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the last checkpoint is from before it."""


def train(config, workdir, train_input, evaluate: Evaluate | None = None) -> None:
    """Trains to `config.training_steps`, from the workdir's newest checkpoint.

    Without one it starts from the parameters of `config.init_from`, or fresh.
    Called again with the same config it goes on exactly where the checkpoint was,
    the data position included. The metrics of a step are read only after the next
    one is dispatched, so that the host never holds up the device.

    Args:
      config: see configs/scenes.py.
      workdir: where everything is written.
      train_input: iterator of batches with `get_state`, `set_state` and `metrics`.
      evaluate: params -> {"target/metric": value}, run each
        `config.eval.every_steps`.

    Raises:
      ValueError: a batch that does not divide, a period of no steps, another
        model's workdir, or an `init_from` that does not fit.
      NonFiniteLossError: with the step and the targets whose loss it was.
    """
    mesh = sharding.make_mesh(config)
    sharding.check_batch(config, mesh)
    _check_periods(config)
    check_vocabulary(config)
    check_same_model(workdir, config)
    with sharding.use(mesh, config):
        abstract_state, shardings = make_state(config, mesh, abstract=True)
        checkpointer = Checkpointer(workdir, config)
        if checkpointer.latest_step() is None:
            state, _ = make_state(config, mesh)
            if config.get("init_from"):
                params = start_from(config, workdir, state.params)
                state = dataclasses.replace(state, params=params)
        else:
            state, input_state = checkpointer.restore(abstract_state)
            train_input.set_state(input_state)
        if jax.process_index() == 0:
            write_config(workdir, config)
        _announce(config, workdir, mesh, state)
        try:
            _run(
                config,
                workdir,
                mesh,
                state,
                shardings,
                train_input,
                evaluate,
                checkpointer,
            )
        finally:
            checkpointer.close()


def _check_periods(config) -> None:
    for name in ("log", "checkpoint", "eval"):
        if config[name].every_steps < 1:
            raise ValueError(
                f"config.{name}.every_steps={config[name].every_steps}: expected at "
                "least 1; the last step is one of them in any case"
            )


def _run(config, workdir, mesh, state, shardings, train_input, evaluate, checkpointer):
    step_fn = make_train_step(config, mesh, shardings)
    first, last = int(state.step), config.training_steps
    meter, pending = Meter(), None
    with (
        contextlib.closing(MetricsLog(workdir, first)) as log,
        tqdm(
            total=last, initial=first, unit="step", disable=jax.process_index() != 0
        ) as progress,
    ):
        logged_at, logged_step = time.monotonic(), first
        for step in range(first + 1, last + 1):
            batch = sharding.put_batch(next(train_input), mesh)
            state, metrics = step_fn(state, batch)
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
                counts = sum_over_processes(train_input.metrics())
                values |= {f"train/{name}": count for name, count in counts.items()}
                progress.set_postfix(loss=f"{values['train/loss']:.4f}")
            results = {}
            if evaluate and evaluates:
                try:
                    results = evaluate(state.params)
                except Exception:
                    # Nothing that was learned is lost. Of several processes this may
                    # be the only one that failed, and saving takes all of them.
                    if jax.process_count() == 1:
                        checkpointer.save(step, state, train_input.get_state(), {})
                    raise
            log.write(step, values | {f"eval/{k}": v for k, v in results.items()})
            if saves:
                checkpointer.save(step, state, train_input.get_state(), results)
            if values:
                logged_at, logged_step = time.monotonic(), step


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
            f"learning rate {metrics['learning_rate']:.2e}); the last checkpoint is "
            f"from before it. Lower config.schedule.peak or look at the data"
        )
    meter.update(metrics)


def _announce(config, workdir, mesh, state) -> None:
    """Says what is about to run, once."""
    if jax.process_index() != 0:
        return
    table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
    print(table, file=sys.stderr)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    print(
        f"{config.task.name}, {config.model.variant}: {count:,} parameters on "
        f"{dict(mesh.shape)}, step {int(state.step)} of {config.training_steps}, "
        f"in {workdir}",
        file=sys.stderr,
    )
