"""Trains RAHF; run again with the same flags, it goes on where it stopped.

    python -m rahf.bin.train --config=configs/scenes_demo.py --workdir=runs/demo
    python -m rahf.bin.train --config=configs/scenes.py --workdir=runs/scenes \
        --config.input.batch_size=32 --config.schedule.peak=5e-4

Every key of the config can be overridden as --config.key=value; docs/train.md
explains them.
"""

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", help_string="The config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is written.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells a story a checkpoint
    # Imported here, so that --help answers at once.
    import jax

    from rahf.data.input import make_train_input
    from rahf.evaluation.split import SplitEvaluator
    from rahf.training.loop import train

    config, workdir = _CONFIG.value, _WORKDIR.value
    evaluator = SplitEvaluator(config)
    train(
        config,
        workdir,
        make_train_input(
            config, shard_index=jax.process_index(), shard_count=jax.process_count()
        ),
        lambda params: evaluator(params, progress=False).flat(),
    )


if __name__ == "__main__":
    app.run(main)
