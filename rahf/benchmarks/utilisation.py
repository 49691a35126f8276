"""Model FLOPs utilisation (MFU): the share of a measured peak that useful work takes."""

import time
from typing import Any

import flax.linen as nn
import jax

from rahf.benchmarks import counting
from rahf.models import sharding
from rahf.models.batch import example_batch
from rahf.models.learners import FEEDBACK
from rahf.training import kept_steps
from rahf.training.feedback import make_learner

#: Sides of the matrices whose product is timed: large enough for the device's peak, and
#: some milliseconds of work.
_SIDES = {"cpu": 1536}
_ACCELERATOR_SIDE = 8192
_REPEATS = 8


def measure_peak(dtype: str = "float32") -> float:
    """Returns the best rate of a few matrix products on the first device, in FLOP/s.

    Args:
      dtype: the dtype of the matrices.
    """
    device = jax.local_devices()[0]
    side = _SIDES.get(device.platform, _ACCELERATOR_SIDE)
    seconds = []
    with sharding.nowhere():  # on this device alone
        # Random numbers: on constants, GPUs draw less power and run faster than on data.
        factor = jax.random.normal(jax.random.key(0), (side, side), dtype)
        factor = jax.device_put(factor, device)
        multiply = jax.jit(lambda x: x @ x)
        jax.block_until_ready(multiply(factor))
        for _ in range(_REPEATS):
            start = time.perf_counter()
            jax.block_until_ready(multiply(factor))
            seconds.append(time.perf_counter() - start)
    return 2.0 * side**3 / min(seconds)


def machine_peak(dtype: str = "float32") -> float:
    """Returns the peak of all devices, in FLOP/s.

    All CPU devices of a process share its cores, which one product keeps busy.
    """
    shared = jax.local_devices()[0].platform == "cpu"
    number = jax.process_count() if shared else jax.device_count()
    return measure_peak(dtype) * number


def training_flops(config) -> float:
    """Returns the operations that training on one example takes.

    Those of matrix products and convolutions. For rich feedback, three times those of
    the forward pass, since a backward pass multiplies each matrix twice: within half a
    percent of the exact count (`rahf.benchmarks.traces`), in a quarter of its time.
    What is computed again to save memory does not count as useful. For other learners,
    parts of which may be frozen, those of both passes.
    """
    learner = make_learner(config)
    batch = jax.eval_shape(lambda: example_batch(config))
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(lambda key: nn.unbox(learner.init(key)), key)

    def loss(params, batch, key):
        return learner.loss(params, batch, learner.counts(batch), key)

    if config.get("learner", FEEDBACK) == FEEDBACK:
        return 3 * counting.count(jax.make_jaxpr(loss)(params, batch, key)).flops
    both = jax.value_and_grad(loss, has_aux=True)
    return counting.count(jax.make_jaxpr(both)(params, batch, key)).flops


class Utilisation:
    """The utilisation of training runs; counts and measures when it is first asked."""

    def __init__(self, config):
        self._config: Any = config
        self._share: float | None = None

    def __call__(self, examples_per_second: float) -> float:
        """Returns the share of the devices' peak, in [0, 1] but for noise."""
        if self._share is None:
            peak = machine_peak(self._config.model.dtype)
            kept = kept_steps.find(self._config)
            count = kept.value("flops", lambda: training_flops(self._config))
            share = self._share = count / peak
            return share * examples_per_second
        return self._share * examples_per_second
