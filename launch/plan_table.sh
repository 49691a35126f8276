#!/usr/bin/env bash
# Prints the tables of docs/scale.md, "What it costs": three sizes of the model on 8 to
# 1,024 chips, by counting alone; two minutes on two cores.
#   bash launch/plan_table.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export JAX_PLATFORMS=cpu # only shapes are computed

exec "${PYTHON:-.venv/bin/python}" - <<'PYTHON'
import jax

from configs import rahf_base
from rahf.benchmarks import layouts, plan
from rahf.benchmarks.chips import GIB, parse_topology
from rahf.benchmarks.traces import Traces

EXAMPLES = 8  # on each chip, at any number of chips
MODELS = {
    "ViT-B/16, T5-base (configs/rahf_base.py)": {},
    "ViT-L/16, T5-large": {
        "vit": {"width": 1024, "depth": 24, "mlp_dim": 4096, "num_heads": 16},
        "t5": {
            "embed_dim": 1024,
            "num_heads": 16,
            "mlp_dim": 4096,
            "encoder_layers": 24,
            "decoder_layers": 24,
        },
    },
    "ViT-L/16, T5-1.1-XL": {
        "vit": {"width": 1024, "depth": 24, "mlp_dim": 4096, "num_heads": 16},
        "t5": {
            "gated": True,
            "embed_dim": 2048,
            "num_heads": 32,
            "mlp_dim": 5120,
            "encoder_layers": 24,
            "decoder_layers": 24,
        },
    },
}
SLICES = {
    8: ("v4:2x2x2", "v5e:2x4", "v5p:2x2x2", "v6e:2x4"),
    64: ("v4:4x4x4", "v5e:8x8", "v5p:4x4x4", "v6e:8x8"),
    256: ("v4:4x8x8", "v5e:16x16", "v5p:4x8x8", "v6e:16x16"),
    1024: ("v4:8x8x16", "v5e:4x16x16", "v5p:8x8x16", "v6e:4x16x16"),
}


def cell(config, traces, name):
    """The simplest of three layouts that fits, and what it costs."""
    topology = parse_topology(name)
    config.input.batch_size = EXAMPLES * topology.size
    for fsdp in (1, 8, topology.size):
        mesh = {"data": topology.size // fsdp, "fsdp": fsdp, "model": 1}
        found = plan.make_plan(config, topology, mesh=mesh, traces=traces)
        if found.memory.total <= found.memory.chip:
            break
    memory = f"{found.memory.total / GIB:.1f} GiB"
    if found.memory.total > found.memory.chip:
        return f"{memory}: does not fit"
    split = f", fsdp {fsdp}" if fsdp > 1 else ""
    hours = topology.size / found.examples_per_second / 3600 * 1e6
    return f"{memory}{split}; {hours:.1f} h, {found.binding}"


for title, sizes in MODELS.items():
    config = rahf_base.get_config()
    config.model.scan_layers = True
    for part, values in sizes.items():
        config.model[part].update(values)
    traces, rows = Traces(config), {}
    for chips, names in SLICES.items():
        cells = tuple(cell(config, traces, name) for name in names)
        rows.setdefault(cells, []).append(f"{chips:,}")
    params = jax.tree.leaves(traces.step(EXAMPLES, "full").state.params)
    million = sum(leaf.size for leaf in params) / 1e6
    print(f"\n{title}, {million:,.0f} M parameters:\n")
    print("| chips | v4 | v5e | v5p | v6e |\n|---|---|---|---|---|")
    for cells, chips in rows.items():
        print("|", ", ".join(chips), "|", " | ".join(cells), "|", flush=True)
PYTHON
