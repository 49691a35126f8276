"""The cost of a train step, counted without running or compiling it."""

import jax

from rahf.benchmarks import loops, step_costs
from rahf.models import sharding

#: Peak dense bfloat16 rates of a whole host in FLOP/s, as stated by the makers.
HOSTS = {
    "4 x TPU v4": 4 * 275e12,
    "8 x TPU v5e": 8 * 197e12,
    "8 x A100": 8 * 312e12,
    "8 x H100": 8 * 989e12,
}


def train_step_flops(config) -> float:
    """Returns the floating-point operations of one step on the whole batch.

    Forward, backward and optimizer, as XLA counts them before it optimises, with loop
    bodies multiplied by their trips; with `config.model.remat` the repeated forward
    pass counts too.
    """
    traced, mesh, *_ = step_costs.trace_step(config, jax.devices()[:1])
    with sharding.use(mesh, config):
        repeated = loops.repeated_flops(traced.jaxpr)
    return loops.xla_flops(traced.lower()) + repeated


def needed(config, utilisation: float, rate: float) -> list[dict[str, float | str]]:
    """Returns what keeps each host of `HOSTS` busy.

    Args:
      config: the config of the run.
      utilisation: the share of the peak that its steps reach.
      rate: the examples per second that a core makes.

    Returns:
      For each host its step time in seconds on the whole batch, the examples per
      second it consumes, and the cores that make them.
    """
    if not 0 < utilisation <= 1 or rate <= 0:
        raise ValueError(
            f"utilisation={utilisation} must be in (0, 1] and rate={rate} above 0"
        )
    flops, found = train_step_flops(config), []
    for host, peak in HOSTS.items():
        seconds = flops / (peak * utilisation)
        examples = config.input.batch_size / seconds
        found.append(
            {
                "host": host,
                "teraflops_a_step": round(flops / 1e12, 1),
                "step_seconds": round(seconds, 3),
                "examples_per_second": round(examples, 1),
                "cores": round(examples / rate, 1),
            }
        )
    return found
