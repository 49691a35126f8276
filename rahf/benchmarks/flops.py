"""What a train step asks of the hosts: operations, and examples made in time."""

from rahf.benchmarks.chips import CHIPS
from rahf.benchmarks.traces import Traces, remat_of


def train_step_flops(config) -> float:
    """Returns the floating-point operations of one step on the whole batch.

    Matrix products and convolutions, forward and backward, in every trip of a loop;
    with `config.model.remat` the repeated forward pass counts too.
    """
    step = Traces(config).step(config.input.batch_size, remat_of(config))
    return step.count({}).flops


def needed(config, utilisation: float, rate: float) -> list[dict[str, float | str]]:
    """Returns what keeps a host of each kind of chip busy.

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
    for chip in CHIPS.values():
        seconds = flops / (chip.host_chips * chip.flops * utilisation)
        examples = config.input.batch_size / seconds
        found.append(
            {
                "host": f"{chip.host_chips} x {chip.name}",
                "teraflops_a_step": round(flops / 1e12, 1),
                "step_seconds": round(seconds, 3),
                "examples_per_second": round(examples, 1),
                "cores": round(examples / rate, 1),
            }
        )
    return found
