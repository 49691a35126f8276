"""The speed of training and prediction on this machine, measured.

Each setting is compiled and run on random images and parameters: examples a second, the
share of a measured peak of matrix products, memory, and the time to compile.
"""

import copy
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from rahf.benchmarks import counting
from rahf.benchmarks.utilisation import machine_peak, training_flops
from rahf.inference.predict_step import cast_params, make_predict_prompts
from rahf.models import decoding, passes, sharding
from rahf.models.batch import example_batch
from rahf.models.rahf import DTYPES, VARIANTS, make_model
from rahf.models.remat import POLICIES
from rahf.targets import Kind, select
from rahf.training import steps

HEADS = ("light", "paper")
#: No recomputation, or a policy of `rahf.models.remat`.
REMAT = ("none", *POLICIES)
VALUES = {"variant": VARIANTS, "heads": HEADS, "dtype": DTYPES, "remat": REMAT}
_MARKS = (3, 4)  # any pieces will do


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is varied; None leaves it as the config has it.

    Attributes:
      batch: examples at a time, of all devices together.
      variant, heads, dtype, remat: see `VALUES`.
    """

    batch: int
    variant: str | None = None
    heads: str | None = None
    dtype: str | None = None
    remat: str | None = None

    def apply(self, config):
        """Returns a copy of the config with this setting."""
        config = copy.deepcopy(config)
        m = config.model
        with config.unlocked():
            config.input.batch_size = self.batch
            m.variant = self.variant or m.variant
            m.dtype = self.dtype or m.dtype
            if self.heads:
                m.heatmap_head.name = m.score_head.name = self.heads
            if self.remat:
                m.remat = self.remat != "none"
                m.remat_policy = self.remat if m.remat else "full"
        return config


def sweep(batches: Sequence[int], **values: Sequence[str | None]) -> Iterator[Setting]:
    """Yields every combination; `values` are those of `VALUES`."""
    for batch in batches:
        for chosen in itertools.product(*values.values()):
            yield Setting(batch, **dict(zip(values, chosen, strict=True)))


@dataclasses.dataclass(frozen=True)
class Speed:
    """What a setting reaches.

    Attributes:
      batch, variant, heads, dtype, remat: the setting.
      compile_seconds: the time to trace and compile.
      seconds: the median time of a run.
      examples_per_second: of all devices together.
      gigaflops: useful operations an example, in 1e9.
      utilisation: share of the peak of all devices that they take.
      memory_gib: what the compiler sets aside on a device, arguments included.
    """

    batch: int
    variant: str
    heads: str
    dtype: str
    remat: str
    compile_seconds: float
    seconds: float
    examples_per_second: float
    gigaflops: float
    utilisation: float
    memory_gib: float


def measure_step(config, repeats: int) -> Speed:
    """Measures the train step.

    Args:
      config: the training config; `input.batch_size` is the batch.
      repeats: how many steps to time.

    Raises:
      ValueError: the batch does not divide among the devices.
    """
    mesh = sharding.make_mesh(config)
    sharding.check_batch(config, mesh)
    with sharding.use(mesh, config):
        state, shardings = steps.make_state(config, mesh)
        stacks = steps.make_stacks(config, mesh)
        step = steps.make_train_step(config, mesh, shardings, stacks)
        state = steps.join(state, stacks)
        size = config.input.batch_size
        batch = jax.device_get(example_batch(config, size))
        batch = sharding.put_batch(batch | {"image": _images(config, size)}, mesh)
        start = time.perf_counter()
        compiled = step.lower(state, batch).compile()
        compiling = time.perf_counter() - start

        def run():
            nonlocal state
            state, metrics = compiled(state, batch)
            jax.block_until_ready((state, metrics))

        return _measure(
            config, compiled, run, training_flops(config), compiling, repeats
        )


def measure_predict(config, repeats: int) -> Speed:
    """Measures the prediction of every target, words included.

    Prompts have as many pieces as the decoder reads at once, and new parameters mark no
    words; each mark that it does not foresee costs a trained model another pass of the
    decoder.

    Args:
      config: the training config; `input.batch_size` is the batch.
      repeats: how many batches to time.
    """
    config, size = copy.deepcopy(config), config.input.batch_size
    config.model.remat = False  # of no effect here
    names = [
        row.name
        for row in select(config.task.targets)
        if row.kind in (Kind.HEATMAP, Kind.SCORE, Kind.WORDS)
    ]
    params = cast_params(_params(config), config.model.dtype)
    step: Any = make_predict_prompts(config, _MARKS, names)
    if not hasattr(step, "lower"):
        raise ValueError(
            f"config.model.decoding={config.model.decoding!r} partly runs on the host: "
            "only constrained decoding can be measured"
        )
    batch = _prompts(config, size, len(passes.targets_of_prompts(config, names)))
    batch["image"] = _images(config, size)
    start = time.perf_counter()
    traced = step.trace(params, batch)
    compiled = traced.lower().compile()
    compiling = time.perf_counter() - start
    flops = counting.count(traced.jaxpr).flops / size
    run = lambda: jax.block_until_ready(compiled(params, batch))
    return _measure(config, compiled, run, flops, compiling, repeats)


def _measure(
    config, compiled, run: Callable, flops: float, compiling: float, repeats: int
) -> Speed:
    """Runs what is compiled.

    Args:
      config: the config.
      compiled: the executable, which knows its memory.
      run: runs it once, to the end.
      flops: useful operations an example.
      compiling: seconds.
      repeats: how many runs to time, after one that is not.
    """
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    median, m = statistics.median(seconds), config.model
    rate = config.input.batch_size / median
    heads = dict.fromkeys([m.heatmap_head.name, m.score_head.name])
    return Speed(
        batch=config.input.batch_size,
        variant=m.variant,
        heads="+".join(heads),
        dtype=m.dtype,
        remat=m.get("remat_policy", "full") if m.remat else "none",
        compile_seconds=compiling,
        seconds=median,
        examples_per_second=rate,
        gigaflops=flops / 1e9,
        utilisation=rate * flops / machine_peak(m.dtype),
        memory_gib=_memory(compiled) / 2**30,
    )


def _memory(compiled) -> float:
    memory = compiled.memory_analysis()
    own = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.argument_size_in_bytes + own + memory.temp_size_in_bytes


def _images(config, size: int) -> np.ndarray:
    side = config.input.image_size
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, side, side, 3), np.uint8)


def _params(config):
    """Random parameters, small enough for any depth; nothing is compiled."""
    model, batch = make_model(config), example_batch(config)
    shapes = jax.eval_shape(
        lambda: nn.unbox(model.init(jax.random.key(0), batch)["params"])
    )
    rng = np.random.default_rng(0)
    draw = lambda leaf: np.float32(0.02) * rng.standard_normal(leaf.shape, np.float32)
    return jax.device_put(jax.tree.map(draw, shapes))


def _prompts(config, size: int, count: int) -> dict[str, Any]:
    rng, i = np.random.default_rng(0), config.input
    length = min(decoding.WINDOW, i.text_length, i.target_length)
    pieces = rng.integers(5, config.model.t5.vocab_size, (size, length), np.int32)
    pieces[:, -1] = decoding.EOS_ID
    fill = lambda width: np.pad(pieces, ((0, 0), (0, width - length)))
    prompt = fill(i.target_length)
    return {
        "inputs": np.stack([fill(i.text_length)] * count),
        "prompt": prompt,
        "word_ends": (prompt > decoding.EOS_ID).astype(np.int32),
    }
