"""When a run began, on which hardware, and with which versions.

The first of the "segments" in config.json has it under "began":

    {"at": "2026-11-27T09:26:26+00:00", "hardware": "2 cores, AMD EPYC, avx2",
     "versions": {"rahf": "0.1.0", "jax": "0.10.2"}}
"""

import datetime
import os
import pathlib
import platform
import sys
from collections.abc import Mapping
from typing import Any

KEY = "began"
VECTORS = ("avx512f", "avx2", "avx", "sse4_2")  # the widest first


def describe_processor(cpuinfo: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> str:
    """Returns the processor's name and, on Linux, its widest vector extension."""
    if not cpuinfo.is_file():
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in cpuinfo.read_text("utf-8").splitlines())
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    flags = fields.get("flags", "").split()
    widest = [name for name in VECTORS if name in flags][:1]
    return ", ".join([fields.get("model name", platform.machine()), *widest])


def make() -> dict[str, Any]:
    """Returns what is recorded of a run that begins now, in this process."""
    import jax  # here, so that describing the processor does not load it

    devices, processes = jax.devices(), jax.process_count()
    if devices[0].platform == "cpu":
        hardware = f"{os.cpu_count()} cores, {describe_processor()}"
    else:
        hardware = f"{len(devices)} x {devices[0].device_kind}"
    if processes > 1:
        hardware += f", {processes} processes"
    now = datetime.datetime.now(datetime.UTC)
    return {
        "at": now.isoformat(timespec="seconds"),
        "hardware": hardware,
        "versions": {"rahf": sys.modules["rahf"].__version__, "jax": jax.__version__},
    }


def describe(config) -> dict[str, str]:
    """Returns what a config.json records, label -> text; of older runs nothing.

    Args:
      config: the config of a workdir or an export.
    """
    segments = config.get("segments") or [{}]
    found: Mapping[str, Any] | None = segments[0].get(KEY)
    if not found:
        return {}
    at = datetime.datetime.fromisoformat(found["at"])
    return {
        "Trained on": f"{at.day} {at:%B %Y}, from {at:%H:%M} UTC",
        "Hardware": found["hardware"],
        "Version": ", ".join(f"{k} {v}" for k, v in dict(found["versions"]).items()),
    }


def describe_seconds(seconds: float) -> str:
    """Returns a duration for people, such as "3 min 20 s" or "5 h 2 min"."""
    seconds = round(seconds)
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number or (name == "s" and not parts):
            parts.append(f"{number} {name}")
    return " ".join(parts[:2])
