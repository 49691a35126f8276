"""Your own raters: a small multi-head model from scratch on their consolidated labels.

python -m rahf.bin.consolidate ratings.jsonl --images=pictures --output=data
python -m rahf.bin.train --config=configs/consolidated.py --workdir=runs/mine \
    --config.input.consolidated.data_dir=data

`:demo` is the quickstart's smaller model, trained for minutes (launch/annotate.sh).
"""

from configs import scenes_demo, scenes_multihead

_BASES = {"": scenes_multihead, "demo": scenes_demo}


def get_config(arg: str = ""):
    """Returns the config.

    Args:
      arg: "" or "demo".
    """
    if arg not in _BASES:
        raise ValueError(f"configs/consolidated.py:{arg}: expected nothing or 'demo'")
    c = _BASES[arg].get_config()
    c.task.name = "consolidated_multihead_word_presence"
    c.task.modules = ("tasks.consolidated",)
    c.input.consolidated = {"data_dir": ""}  # --output of rahf.bin.consolidate
    c.input.bad_records = "skip"
    # People's prompts have words that the vocabulary of scenes spells piece by piece.
    c.input.text_length = c.input.target_length = 96
    return c
