"""Says what a run costs on a TPU slice or GPU nodes, before they are booked.

    python -m rahf.bin.plan --config=configs/rahf_base.py --topology=v5e:4x8

First, within seconds, by counting: the memory of each chip, the least time of a step and
what limits it, chip-hours, and the host cores that make the examples. Then the step is
compiled for the slice, which takes minutes, needs `pip install "rahf[tpu]"` but no TPU,
and says exactly whether it fits. Ctrl-C stops it; --analytic leaves it out.

--topology is chip:shape. v4 and v5p have three dimensions, v5e and v6e two, and a100,
h100 and h200 come in nodes of 8; one number more in front is the number of slices or
nodes: v5e:4x8, v5p:4x4x4, v6e:4x16x16, h100:8, h200:2x8. Several slices and GPUs can be
counted but not compiled for.

Any key of the config changes the plan, as a layout does:

    python -m rahf.bin.plan --config=configs/rahf_base.py --topology=v5p:4x4x4 \
        --config.sharding.mesh.fsdp=4 --analytic
    python -m rahf.bin.plan --config=configs/rahf_base.py --topology=h100:8 --compare
    python -m rahf.bin.plan --config=configs/rahf_base.py --topology=v5e:4x8 \
        --largest_batch --analytic --json=plan.json
"""

import os
from typing import Any

from absl import flags

from rahf.bin import config_flag

_NAMES = ("topology", "analytic", "largest_batch", "compare", "utilisation") + (
    ("core_rate", "json")
)
flags.DEFINE_string("topology", None, "The chips, as chip:shape.")
flags.DEFINE_bool("analytic", False, "Count only; compile nothing.")
flags.DEFINE_bool("largest_batch", False, "Find the largest batch that fits.")
flags.DEFINE_bool("compare", False, "Count other layouts and remat; recommend one.")
flags.DEFINE_float("utilisation", 0.4, "The MFU that chip-hours assume.")
flags.DEFINE_float("core_rate", 93.0, "Examples/s of a core (rahf.bin.benchmark_input)")
flags.DEFINE_string("json", "", "A JSON file to write all numbers to.")
flags.adopt_module_key_flags(config_flag)
flags.mark_flags_as_required(["config", "topology"])


def main():
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # only shapes are computed
    from rahf.benchmarks import planning

    named: dict[str, Any] = {name: flags.FLAGS[name].value for name in _NAMES}
    planning.run(config_flag.CONFIG.value, planning.Request(**named))


if __name__ == "__main__":
    config_flag.run(main)
