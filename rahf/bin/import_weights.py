"""Imports published checkpoints into a workdir, for training or prediction.

    python -m rahf.bin.import_weights --config=configs/rahf_base.py --output=W \
        --vit=B_16.npz --t5=t5-base --config.input.vocabulary=t5-base/spiece.model
    python -m rahf.bin.import_weights --config=configs/richhf_release.py --output=W \
        --richhf=rahf_model.pt --config.input.vocabulary=spiece.model

Training starts from the first with --config.init_from=W. The second is a complete
model, ready for rahf.bin.predict and the eval binaries. docs/weights.md lists what can
be read.
"""

from absl import flags, logging

from rahf.bin import config_flag

_OUTPUT = flags.DEFINE_string("output", None, "The workdir to write.")
_VIT = flags.DEFINE_string("vit", "", "An AugReg or big_vision .npz, or safetensors.")
_T5 = flags.DEFINE_string("t5", "", "A T5X or Orbax folder, or safetensors.")
_RICHHF = flags.DEFINE_string("richhf", "", "The first author's .pt, the whole model.")
_RESIZE = flags.DEFINE_bool(
    "resize_vocabulary",
    False,
    "Cut or pad T5's embedding tables to the config's vocabulary size.",
)
flags.adopt_module_key_flags(config_flag)
flags.mark_flags_as_required(["config", "output"])


def main():
    logging.set_verbosity(logging.ERROR)  # Orbax logs at length
    # Imported here, so that --help is fast.
    from rahf.checkpoints.importing import import_weights

    report = import_weights(
        config_flag.CONFIG.value,
        _OUTPUT.value or "",
        vit=_VIT.value,
        t5=_T5.value,
        richhf=_RICHHF.value,
        resize_vocabulary=_RESIZE.value,
    )
    print(report.summary())
    print(f"written: {_OUTPUT.value}")


if __name__ == "__main__":
    config_flag.run(main)
