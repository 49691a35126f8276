"""Flags of rahf.bin.improve: which models, prompts and arms."""

from absl import flags

from rahf.bin.training_run import WORKDIR

_GENERATOR = flags.DEFINE_string("generator", None, "The workdir of the generator.")
_REWARDS = flags.DEFINE_string(
    "rewards", None, "The workdir of the model that chooses, weighs and mends."
)
_JUDGE = flags.DEFINE_string(
    "judge", None, "The workdir of another model, which judges and does nothing else."
)
_PROMPTS = flags.DEFINE_string(
    "prompts",
    "train:400",
    "What to draw for learning: a file of prompts, or the first N different ones of a "
    "split of the generator's task.",
)
_HELD_OUT = flags.DEFINE_string(
    "held_out", "test:100", "Other prompts for judging, likewise."
)
_SAMPLES = flags.DEFINE_integer("samples", 8, "Images of each prompt.", lower_bound=1)
_JUDGED = flags.DEFINE_integer(
    "judged_samples", 4, "Images of each held-out prompt.", lower_bound=1
)
_BY = flags.DEFINE_string("by", "plausibility", "What is chosen by, see select.")
_THRESHOLD = flags.DEFINE_string(
    "threshold", "auto:0.5", "The lowest value to keep, or auto:SHARE of the prompts."
)
_REQUIRE = flags.DEFINE_multi_string(
    "require", [], "NAME=T: another score that must be at least T; repeatable."
)
_KEEP = flags.DEFINE_integer("keep", 1, "Images to keep of a prompt.", lower_bound=1)
_WEIGH = flags.DEFINE_string(
    "weigh", "implausibility=0.1", "The heatmap of the weighted arm, and its floor."
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 3, "Rounds of --config.training_steps each.", lower_bound=1
)
_ARMS = flags.DEFINE_list(
    "arms", "chosen,random,weighted,rounds", "What is compared; some of these."
)
_MENDED = flags.DEFINE_integer(
    "mended", 100, "Held-out images to mend; 0 = none.", lower_bound=0
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of the first held-out image, of draws and of training.", lower_bound=0
)


def request(config, load):
    """Returns the `ImproveRequest` that the flags ask for.

    Args:
      config: how the generator is trained on.
      load: the workdir of a generator -> the generator.
    """
    from rahf.applications.selection import parse_rule
    from rahf.improvement.cycle import ImproveRequest
    from rahf.improvement.prompts import read_lists

    generator, require = str(_GENERATOR.value), list(_REQUIRE.value or [])
    prompts, held_out = read_lists(
        str(_PROMPTS.value), str(_HELD_OUT.value), lambda: load(generator)
    )
    return ImproveRequest(
        workdir=str(WORKDIR.value),
        generator=generator,
        rewards=str(_REWARDS.value),
        judge=str(_JUDGE.value),
        config=config,
        prompts=prompts,
        held_out=held_out,
        samples=int(_SAMPLES.value or 1),
        judged_samples=int(_JUDGED.value or 1),
        rule=parse_rule(
            str(_BY.value), _THRESHOLD.value, require, int(_KEEP.value or 1), 1.0
        ),
        weigh=str(_WEIGH.value),
        rounds=int(_ROUNDS.value or 1),
        arms=tuple(_ARMS.value or ()),
        mended=int(_MENDED.value or 0),
        seed=int(_SEED.value or 0),
    )
