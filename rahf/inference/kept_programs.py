"""The cache of compiled programs, in a process that has JAX already."""

from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from rahf import compilation_cache


def use() -> None:
    """Switches the cache on (`rahf.compilation_cache`), unless JAX has one or is to
    have none.

    Raises:
      ValueError: the switch has another value than on or off.
    """
    told: Any = jax.config
    if told.jax_compilation_cache_dir is not None:
        return
    if not told.jax_enable_compilation_cache:
        return
    settings = compilation_cache.settings()
    for name, value in settings.items():
        jax.config.update(name, value)
    if settings:  # what was compiled before has settled that there is no cache
        jax_cache.reset_cache()
