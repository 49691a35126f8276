"""Trains RAHF; run again with the same flags, it goes on where it stopped.

    python -m rahf.bin.train --config=configs/scenes_demo.py --workdir=runs/demo
    python -m rahf.bin.train --config=configs/scenes.py --workdir=W --config.seed=1

Every key of the config can be overridden as --config.key=value; docs/train.md
explains them. On several hosts start it on each, with --distributed.
"""

import contextlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", help_string="The config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is written.")
_SEVERAL = flags.DEFINE_bool("distributed", False, "One of several processes.")
flags.mark_flags_as_required(["config", "workdir"])


def _parse(argv):
    """Reads the flags; a key the config does not have ends with one clear line."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        message = str(error.args[0]).strip("'").replace("\\'", "'").replace("\\n", ". ")
        sys.exit(f"error: a --config.* flag names a key that is not there: {message}")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells a story a checkpoint
    import jax  # Here, so that --help answers at once.

    from rahf.data.input import make_train_input
    from rahf.evaluation.split import SplitEvaluator
    from rahf.training.loop import NonFiniteLossError, train

    config, workdir = _CONFIG.value, _WORKDIR.value
    try:
        if _SEVERAL.value:
            jax.distributed.initialize()  # finds the others: TPU pods, Slurm, MPI
        train_input = make_train_input(
            config, shard_index=jax.process_index(), shard_count=jax.process_count()
        )
        evaluator = SplitEvaluator(config)

        def evaluate(params):
            return evaluator(params, progress=False).flat()

        with contextlib.closing(train_input):
            train(config, workdir, train_input, evaluate)
    except (ValueError, NonFiniteLossError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
