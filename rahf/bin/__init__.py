import sys

from rahf import compilation_cache
from rahf.bin import interrupts, standard_streams

if sys.argv[:1] == ["-m"]:  # python -m rahf.bin.NAME is looking for NAME
    standard_streams.open_closed()
    interrupts.install()
    try:
        compilation_cache.set_environment()
    except ValueError as error:
        sys.exit(f"error: {error}")
