"""What the commands that train have in common: --workdir, and a run in it."""

import contextlib
import os

from absl import flags, logging

WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder to write the run to, or gs://bucket/folder."
)


def quiet() -> None:
    """Leaves to the log only what a user can act on."""
    logging.set_verbosity(logging.WARNING)
    # Orbax logs at length; its failures are also raised, and reported in one line.
    logging.get_absl_logger().addFilter(lambda record: "/orbax/" not in record.pathname)


def run(config, workdir: str | os.PathLike) -> None:
    """Trains in a workdir, evaluating on the way; see `rahf.training.loop.train`."""
    import jax  # here, so that --help is fast

    from rahf.benchmarks.utilisation import Utilisation
    from rahf.checkpoints import same_settings
    from rahf.evaluation.display import EvaluationDisplay
    from rahf.evaluation.split import SplitEvaluator
    from rahf.input.loader import make_train_input
    from rahf.training.exits import in_one_line
    from rahf.training.feedback import make_learner
    from rahf.training.loop import train

    same_settings.check(config, workdir)
    train_input = make_train_input(
        config, shard_index=jax.process_index(), shard_count=jax.process_count()
    )
    evaluate, evaluator = make_learner(config).evaluator(), None
    if evaluate is None:
        evaluator = SplitEvaluator(config)
        evaluator.check()
        evaluate = lambda params: evaluator(params, progress=False).flat()

    with in_one_line(workdir), contextlib.closing(train_input):
        display = EvaluationDisplay(config, evaluator)
        train(config, workdir, train_input, evaluate, Utilisation(config), display)
    if jax.process_count() == 1:  # else some of the parameters are elsewhere
        from rahf.inference import training_images

        seen = config.training_steps * config.input.batch_size
        if line := training_images.summarise_run(workdir, seen):
            print(line)
