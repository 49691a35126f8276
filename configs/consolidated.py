"""Your own raters: a small multi-head model from scratch on their consolidated labels.

python -m rahf.bin.consolidate ratings.jsonl --images=pictures --output=data
python -m rahf.bin.train --config=configs/consolidated.py --workdir=runs/mine \
    --config.input.consolidated.data_dir=data
"""

from configs import scenes_multihead


def get_config(arg: str = ""):
    """Returns the config; it takes no `arg`."""
    c = scenes_multihead.get_config(arg)
    c.task.name = "consolidated_multihead_word_presence"
    c.task.modules = ("tasks.consolidated",)
    c.input.consolidated = {"data_dir": ""}  # --output of rahf.bin.consolidate
    c.input.bad_records = "skip"
    # People's prompts have words that the vocabulary of scenes spells piece by piece.
    c.input.text_length = c.input.target_length = 96
    return c
