"""Ctrl-C ends a command with 130 and at most a line, also while it is being imported.

A KeyboardInterrupt that is raised in the middle of an import comes out of it as a
traceback of whatever was half loaded, or as another error: extension modules make an
ImportError of it, and libraries catch that.
"""

import os
import signal
import types

#: The shells' code of an interrupted program.
CODE = 128 + signal.SIGINT


def install() -> None:
    """Handles SIGINT from now on, unless it is ignored, as after `command &`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    if is_importing(frame):
        os.write(2, b"interrupted\n")
        os._exit(CODE)  # nothing has begun that would have to be tidied up
    raise KeyboardInterrupt


def is_importing(frame: types.FrameType | None) -> bool:
    """Whether a frame or one that called it executes an import statement."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
