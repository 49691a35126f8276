"""What the backward pass keeps of a layer that it computes again."""

from typing import Any

import jax

#: `config.model.remat_policy` -> the policy of `jax.checkpoint`. "full" keeps a layer's
#: input alone; "dots" also the outputs of its linear maps, but not of attention, whose
#: size grows with the square of the length.
POLICIES = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def policy_of(remat: bool | str) -> Any:
    """Returns the policy of `remat`: True, or a name in `POLICIES`."""
    return POLICIES[remat] if isinstance(remat, str) else None
