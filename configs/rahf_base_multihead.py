"""The paper's multi-head variant: seven heads on one encoding of the plain prompt.

python -m rahf.bin.train --config=configs/rahf_base_multihead.py --workdir=W
"""

from configs import rahf_base


def get_config(arg: str = ""):
    """The config; `arg` is not used."""
    c = rahf_base.get_config(arg)
    c.task.name = "scenes_multihead"
    c.model.variant = "multihead"
    return c
