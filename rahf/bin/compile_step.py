"""Compiles a config's train step for a TPU slice, without the slice.

    pip install -e ".[tpu]"
    python -m rahf.bin.compile_step --config=configs/rahf_base.py --topology=v5e:4x8

Prints what the step costs each chip: memory, operations, collectives. Nothing is run.
Flags such as --config.sharding.mesh.fsdp=4 show what another layout would cost. Without
--topology it compiles for the devices of this machine.
"""

import dataclasses
import json

from absl import flags

from rahf.bin import config_flag

_TOPOLOGY = flags.DEFINE_string(
    "topology", "", "The TPU slice as generation:shape, such as v5e:4x8."
)
flags.adopt_module_key_flags(config_flag)
flags.mark_flags_as_required(["config"])


def main():
    import jax

    from rahf.benchmarks import step_costs

    topology = _TOPOLOGY.value
    devices = step_costs.tpu_devices(topology) if topology else jax.devices()
    costs = step_costs.compile_step(config_flag.CONFIG.value, devices)
    gigabytes = sum((costs.state_bytes, costs.batch_bytes, costs.temporary_bytes)) / (
        1 << 30
    )
    print(json.dumps(dataclasses.asdict(costs), indent=2))
    print(
        f"{topology or 'this machine'}: {len(devices)} devices, "
        f"{gigabytes:.2f} GiB on each"
    )


if __name__ == "__main__":
    config_flag.run(main)
