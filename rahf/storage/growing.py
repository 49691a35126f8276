"""Files of a workdir that grow, as a log does. Objects of a bucket cannot be appended to.

They grow in a local folder, and are copied whole: in the background every few seconds,
and on `flush`, before anything is written that relies on them.
"""

import concurrent.futures
import os
import pathlib
import tempfile
import time

from rahf import storage

#: Cloud Storage takes one write a second of the same object.
COPY_SECONDS = 10.0


class GrowingFiles:
    """A local folder whose files are copied to a workdir; the workdir itself if local.

    Attributes:
      folder: the local folder to write in.
    """

    def __init__(self, workdir: pathlib.Path, names: tuple[str, ...] = ()):
        """Fetches the files that go on.

        Args:
          workdir: from `storage.place`.
          names: the files that this process continues, if they exist.

        Raises:
          OSError: one cannot be read.
        """
        self._workdir = None if storage.is_local(workdir) else workdir
        self.folder = workdir
        if self._workdir is None:
            return
        self._temporary = tempfile.TemporaryDirectory(prefix="rahf-")
        self.folder = pathlib.Path(self._temporary.name)
        self._copied: dict[str, int] = {}
        for name in names:
            if (workdir / name).exists():
                (self.folder / name).write_bytes(storage.read_bytes(workdir / name))
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._pending: concurrent.futures.Future | None = None
        self._began = time.monotonic()

    def grown(self) -> None:
        """Copies what has changed in the background, unless that was just done."""
        if self._workdir is None or time.monotonic() < self._began + COPY_SECONDS:
            return
        if self._pending is None or self._pending.done():
            # An error there is that of the next copy too, or it has passed.
            self._began = time.monotonic()
            self._pending = self._thread.submit(self._copy)

    def flush(self) -> None:
        """Copies what has changed; returns once it is in the workdir.

        Raises:
          OSError: it cannot be written.
        """
        if self._workdir is not None:
            self._thread.submit(self._copy).result()

    def close(self) -> None:
        """Copies what has changed, and removes the local folder.

        Raises:
          OSError: it cannot be written.
        """
        if self._workdir is None:
            return
        try:
            self.flush()
        finally:
            self._thread.shutdown()
            self._temporary.cleanup()

    def _copy(self) -> None:
        assert self._workdir is not None
        for path in self.folder.iterdir():
            size = os.path.getsize(path)
            if self._copied.get(path.name) != size:
                # The size was taken first: what is added meanwhile is copied next time.
                storage.write_bytes(self._workdir / path.name, path.read_bytes())
                self._copied[path.name] = size
