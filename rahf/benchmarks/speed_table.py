"""A sweep of settings whose speed is measured: printed, and written as JSON."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import jax

from rahf import durable
from rahf.benchmarks import speed

_COLUMNS = (  # attribute of Speed, heading, format
    ("batch", "batch", "d"),
    ("variant", "variant", ""),
    ("heads", "heads", ""),
    ("dtype", "dtype", ""),
    ("remat", "remat", ""),
    ("examples_per_second", "examples/s", ",.2f"),
    ("gigaflops", "GFLOP", ",.1f"),
    ("utilisation", "of peak", ".1%"),
    ("memory_gib", "GiB", ".2f"),
    ("compile_seconds", "compile s", ".1f"),
)
_WIDTHS = (5, 10, 11, 8, 6, 10, 8, 7, 6, 9)


def run(
    config,
    name: str,
    measure: Callable[..., speed.Speed],
    batches: Sequence[int],
    values: Mapping[str, Sequence[str | None]],
    repeats: int,
    output: str | None,
) -> None:
    """Measures every combination of settings and prints a line for each.

    A setting for which there is no memory is told of, and the others are measured.

    Args:
      config: the config that the settings change.
      name: its name, to be printed.
      measure: `speed.measure_step` or `speed.measure_predict`.
      batches, values: see `speed.sweep`.
      repeats: how many runs to time.
      output: the JSON file to write, if any.

    Raises:
      ValueError: a value is not among the options.
    """
    for option, known in speed.VALUES.items():
        for value in values[option]:
            if value is not None and value not in known:
                raise ValueError(
                    f"--{option}={value}: expected some of {', '.join(known)}"
                )
    # A program that is kept from before would tell nothing about compiling.
    kept = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        _run(config, name, measure, speed.sweep(batches, **values), repeats, output)
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)


def _run(config, name, measure, settings, repeats, output) -> None:
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind}"
    print(f"{name} on {devices}, JAX {jax.__version__}")
    print(_line([heading for _, heading, _ in _COLUMNS]), flush=True)
    found = []
    for setting in settings:
        try:
            result = measure(setting.apply(config), repeats)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            asked = {k: v for k, v in dataclasses.asdict(setting).items() if v}
            print(f"{asked}: out of memory", file=sys.stderr)
            found.append(asked | {"error": "out of memory"})
            continue
        texts = [format(getattr(result, key), form) for key, _, form in _COLUMNS]
        print(_line(texts), flush=True)
        found.append(dataclasses.asdict(result))
    if output:
        facts = {"config": name, "devices": devices, "jax": jax.__version__}
        facts |= {"load": os.getloadavg()[0], "results": found}
        durable.write_text(output, json.dumps(facts, indent=1) + "\n")


def _line(texts: Sequence[str]) -> str:
    return "  ".join(
        text.rjust(width) for text, width in zip(texts, _WIDTHS, strict=True)
    )
