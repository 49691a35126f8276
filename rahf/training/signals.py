"""SIGTERM, SIGINT and SIGHUP while a run trains: a request to stop, then a demand."""

import os
import signal
import sys
import threading
import time
from typing import Self

from rahf.training import exits

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds within which signals are one: schedulers send some twice.
_TOGETHER = 0.5


class Signals:
    """Notes the first signal in `received`; the second one ends the process at once.

    Python calls handlers between two instructions of the main thread only, which may be
    compiling for minutes. So the second signal is left to a thread, which the
    interpreter's own handler tells by a pipe.

    Attributes:
      received: the name of the first signal, such as "SIGTERM"; None before.
    """

    def __init__(self):
        self.received: str | None = None
        self._at = 0.0
        self._restore = lambda: None
        self._terminals: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # Python lets no other thread handle signals
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = {number: signal.getsignal(number) for number in _NUMBERS}
        if before[signal.SIGHUP] is signal.SIG_IGN:
            del before[signal.SIGHUP]  # nohup
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        for number in before:
            signal.signal(number, lambda number, _: self._note(number))
        fd_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._listen, args=(read,), daemon=True)
        thread.start()

        def restore() -> None:
            for number, handler in before.items():  # None is one that C installed
                signal.signal(number, handler or signal.SIG_DFL)
            signal.set_wakeup_fd(fd_before)
            os.write(write, b"\0")
            thread.join()
            os.close(read)
            os.close(write)

        self._restore = restore
        return self

    def __exit__(self, *_) -> None:
        self._restore()

    def _note(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        self.received = self.received or signal.Signals(number).name

    def _listen(self, pipe: int) -> None:
        while number := os.read(pipe, 1)[0]:
            if number not in _NUMBERS:
                continue
            name, now = signal.Signals(number).name, time.monotonic()
            self._note(number)
            if not self._at:
                self._at = now
                print(
                    f"\n{name}: stopping once this step is done and saved; a second "
                    "signal stops at once",
                    file=sys.stderr,
                    flush=True,
                )
            elif now - self._at > _TOGETHER:
                exits.at_once(
                    exits.SIGNALLED + number,
                    f"{name}: stopped at once; the last complete checkpoint stands",
                )

    def _leave_terminal(self) -> None:
        """Lets what is written from now on go nowhere, as the terminal is gone.

        Else the next line of progress would raise an OSError before anything is saved.
        """
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for fd in self._terminals:
            os.dup2(nowhere, fd)
        os.close(nowhere)
