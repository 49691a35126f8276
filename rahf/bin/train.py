"""Trains RAHF. The same command resumes an interrupted run.

    python -m rahf.bin.train --config=configs/scenes_demo.py --workdir=runs/demo
    python -m rahf.bin.train --config=configs/scenes.py --workdir=W --config.seed=1

Any key of the config can be overridden with --config.key=value; docs/train.md explains
them. To train on several hosts, run the same command on each, with --distributed
(docs/scale.md). SIGTERM, Ctrl-C and a closed terminal stop the run once it is saved,
with exit code 75.
"""

import contextlib

from absl import flags, logging

from rahf.bin import config_flag, process_flags

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder to write the run to, or gs://bucket/folder."
)
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(process_flags)
flags.mark_flags_as_required(["config", "workdir"])


def main():
    logging.set_verbosity(logging.WARNING)
    # Orbax logs at length; its failures are also raised, and reported in one line.
    logging.get_absl_logger().addFilter(lambda record: "/orbax/" not in record.pathname)
    process_flags.join()
    import jax  # here, so that --help is fast

    from rahf.benchmarks.utilisation import Utilisation
    from rahf.checkpoints import same_settings
    from rahf.evaluation.split import SplitEvaluator
    from rahf.input.loader import make_train_input
    from rahf.training.exits import in_one_line
    from rahf.training.loop import train

    config, workdir = config_flag.CONFIG.value, str(_WORKDIR.value)
    same_settings.check(config, workdir)
    train_input = make_train_input(
        config, shard_index=jax.process_index(), shard_count=jax.process_count()
    )
    evaluator = SplitEvaluator(config)
    evaluator.check()
    evaluate = lambda params: evaluator(params, progress=False).flat()

    with in_one_line(workdir), contextlib.closing(train_input):
        train(config, workdir, train_input, evaluate, Utilisation(config))


if __name__ == "__main__":
    config_flag.run(main)
