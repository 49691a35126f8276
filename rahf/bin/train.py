"""Trains RAHF; run again with the same flags, it goes on where it stopped.

    python -m rahf.bin.train --config=configs/scenes_demo.py --workdir=runs/demo
    python -m rahf.bin.train --config=configs/scenes.py --workdir=W --config.seed=1

Every key of the config can be overridden as --config.key=value; docs/train.md
explains them. On several hosts start it on each, with --distributed.
"""

import contextlib
import sys

from absl import flags, logging

from rahf.bin import config_flag

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is written.")
_SEVERAL = flags.DEFINE_bool("distributed", False, "One of several processes.")
flags.adopt_module_key_flags(config_flag)
flags.mark_flags_as_required(["config", "workdir"])


def main():
    logging.set_verbosity(logging.WARNING)
    # Orbax tells a story a checkpoint; what fails it raises, too, and we say in a line.
    logging.get_absl_logger().addFilter(lambda record: "/orbax/" not in record.pathname)
    import jax  # Here, so that --help answers at once.

    from rahf.evaluation.split import SplitEvaluator
    from rahf.input.loader import make_train_input
    from rahf.training.loop import NonFiniteLossError, train

    config, workdir = config_flag.CONFIG.value, _WORKDIR.value
    if _SEVERAL.value:
        jax.distributed.initialize()  # finds the others: TPU pods, Slurm, MPI
    train_input = make_train_input(
        config, shard_index=jax.process_index(), shard_count=jax.process_count()
    )
    evaluator = SplitEvaluator(config)
    evaluator.check()

    def evaluate(params):
        return evaluator(params, progress=False).flat()

    try:
        with contextlib.closing(train_input):
            train(config, workdir, train_input, evaluate)
    except NonFiniteLossError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # a full disk, a folder that is read-only
        why = f"{error.filename or workdir}: {error.strerror}" if error.errno else error
        sys.exit(f"error: {why}")


if __name__ == "__main__":
    config_flag.run(main)
