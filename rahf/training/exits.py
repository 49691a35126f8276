"""How a training run ends: the exit codes of rahf.bin.train (docs/train.md).

0 is the end of training. A code above 128 is that of a signal: 129, 130 and 143 if a
second SIGHUP, SIGINT or SIGTERM stopped the run at once.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

#: Something is wrong that the same command would meet again.
ERROR = 1
#: Stopped by a signal and saved; the same command goes on (sysexits' EX_TEMPFAIL).
STOPPED = 75
#: Another process of the run was lost; the same command, in all of them, goes on.
PEER_ENDED = 76
#: Added to the number of a signal that stopped the run at once.
SIGNALLED = 128


class RunStopped(Exception):
    """A run was stopped by a signal and has saved what it learned."""


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the last checkpoint predates it."""


@contextlib.contextmanager
def in_one_line(workdir: str | os.PathLike | None) -> Iterator[None]:
    """Ends the process with a line and an exit code where a run does not finish."""
    try:
        yield
    except RunStopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(STOPPED)
    except NonFiniteLossError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # such as a full disk or a read-only folder
        why = f"{error.filename or workdir}: {error.strerror}" if error.errno else error
        sys.exit(f"error: {why}")


def at_once(code: int, line: str) -> None:
    """Ends the process from any thread, whatever the others wait for."""
    if line:
        print(line, file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
