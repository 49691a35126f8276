"""Standard input, output and error that were closed, as by `command 2>&-`.

The next file that the program opens would get the number of the closed one, and messages
that libraries write to number 2 would end up in it: in a checkpoint, perhaps.
"""

import os
import sys


def open_closed() -> None:
    """Opens those that are closed, to nowhere."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
