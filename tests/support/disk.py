"""A disk without room."""

import contextlib
import resource
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond `size` bytes while the body runs.

    The system refuses the write, in whichever language it is made, as it does on a full
    disk; only the words differ ("File too large"). Compiled programs are not cached
    then: other tests would find their halves.
    """
    told: Any = jax.config
    caches = told.jax_enable_compilation_cache
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", caches)
        compilation_cache.reset_cache()
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
