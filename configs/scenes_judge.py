"""The judge of generated scenes: another training than the model that rewards.

    python -m rahf.bin.train --config=configs/scenes_judge.py --workdir=runs/scenes_judge
    python -m rahf.bin.eval_scores --checkpoint=runs/scenes_judge --split=test
    python -m rahf.bin.predict --checkpoint=runs/scenes_judge generated --output=judged

It is another network than the reference run, `scenes_student.py`, taught by labels, with
another seed and on 150,000 training scenes of another seed, of which the models that
reward and the generator have seen none. From labels, that recipe is more accurate than
the reference run (docs/distill.md). Dev and test are the same scenes, so its accuracy
compares with theirs. docs/judge.md.
"""

from configs import scenes_student


def get_config(arg: str = ""):
    """Returns the config; it takes no `arg`."""
    c = scenes_student.get_config(arg)
    c.seed = 1
    # Scenes of two seeds have nothing in common (rahf.datasets.scenes.dice).
    c.input.scenes.train_seed = 1
    c.input.scenes.train_examples = 150_000
    return c
