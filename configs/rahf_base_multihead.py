"""The paper's multi-head variant: seven heads on one encoding of the plain prompt.

python -m rahf.bin.train --config=configs/rahf_base_multihead.py --workdir=W

`--config=configs/rahf_base_multihead.py:richhf` trains on RichHF-18K.
"""

from configs import rahf_base


def get_config(arg: str = ""):
    """Returns the config; `arg` is "" for scenes or "richhf"."""
    c = rahf_base.get_config()
    c.task.name = "scenes_multihead"
    c.model.variant = "multihead"
    return rahf_base.on_data(c, arg)
