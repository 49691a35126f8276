"""Compares rahf with PyTorch at full size, layer by layer.

    python -m tests.parity.compare DIR

DIR is what `tests/parity/make_fixtures.py --full=DIR` wrote. Imports its model.pt as a
user would, runs it on the same inputs and prints, for each layer, the largest
difference as a share of the largest value. Needs about 8 GB of memory.
"""

import pathlib
import sys

import jax
import numpy as np

from configs import richhf_release
from rahf.checkpoints import importing, restore
from rahf.models.batch import example_batch
from rahf.models.rahf import make_model
from tests.parity import reference

WORST = 1e-4


def main(folder: pathlib.Path) -> None:
    said = np.load(folder / "said.npz")
    config = richhf_release.get_config()
    config.input.vocabulary = str(reference.FIXTURES / "spiece.model")
    config.input.text_length = said["in/inputs"].shape[1]
    config.input.target_length = said["in/said"].shape[1]
    if not restore.complete_steps(folder / "W"):
        report = importing.import_weights(
            config, folder / "W", richhf=str(folder / "model.pt")
        )
        print(report.summary())
    _, params, _ = restore.restore_for_inference(folder / "W")
    found = _run(config, params, said)
    worst = 0.0
    for name, value in found.items():
        scale = np.abs(said[name]).max()
        difference = np.abs(np.asarray(value) - said[name]).max() / scale
        worst = max(worst, difference)
        print(f"{name:<20} {difference:.1e} of {scale:.3g}")
    print(f"the largest: {worst:.1e}")
    if worst > WORST:
        sys.exit(f"expected at most {WORST}")


def _run(config, params, said) -> dict[str, jax.Array]:
    """What every layer says, by the names of `said`."""
    model = make_model(config)
    batch = example_batch(config, 1)
    batch |= {"image": said["in/image"], "inputs": said["in/inputs"]}
    batch["targets"] |= {"misaligned_words": said["in/said"]}
    run = jax.jit(
        lambda params: model.apply(
            {"params": params}, batch, capture_intermediates=True
        )
    )
    outputs, kept = run(params)
    kept = kept["intermediates"]
    blocks = kept["vit"]["Transformer"]
    vit, t5 = config.model.vit.depth, config.model.t5
    found = {f"vit/{i}": blocks[f"encoderblock_{i}"]["__call__"][0] for i in range(vit)}
    for stack, depth in (
        ("encoder", t5.encoder_layers),
        ("decoder", t5.decoder_layers),
    ):
        for i in range(depth):
            layer = kept["t5"][stack][f"layers_{i}"]
            found[f"t5/{stack}/{i}"] = layer["__call__"][0]
    found["tokens"] = kept["visual_token_projection"]["__call__"][0]
    found["encoded"] = kept["t5"]["encoder"]["encoder_norm"]["__call__"][0]
    return found | dict(outputs)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
