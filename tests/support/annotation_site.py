"""An annotation server for tests: its images, its store, its raters."""

import contextlib
import dataclasses
import json
import pathlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from rahf.annotation import (
    assignment,
    instructions,
    server,
    store,
    task_files,
    tokens,
)

NAMES = ("plausibility", "alignment", "aesthetics", "overall")


@dataclasses.dataclass
class Site:
    """What a test needs of a server.

    Attributes:
      app, api: the ASGI application, and what it is made from.
      store: its open database.
      tokens: its tokens.
      address: http://127.0.0.1:PORT, where `serving` listens.
    """

    app: Any
    api: server.AnnotationApi
    store: store.AnswerStore
    tokens: tokens.TokenFile
    address: str = ""

    def link(self, name: str, role: str = "rater") -> str:
        """Returns the personal link of a new rater or manager."""
        return f"{self.address}/#token={self.tokens.make(name, role)}"

    def client(self, name: str, role: str = "rater", *, login: bool = True):
        """Returns a client without a network, of a new rater or manager."""
        client = TestClient(self.app, base_url="http://localhost:80")
        if login:
            body = {"token": self.tokens.make(name, role)}
            assert client.post("/api/session", json=body).status_code == 200
        return client


def write_images(folder: pathlib.Path, sizes: Mapping[str, Sequence[int]]) -> None:
    """Writes pictures of these (width, height), a ramp of colours each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height) in sizes.items():
        ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
        Image.fromarray(ramp.astype(np.uint8)).save(folder / name)


@contextlib.contextmanager
def opened(
    folder: pathlib.Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    raters: int = 1,
    rules: Mapping[str, Any] | None = None,
    guide: instructions.Instructions | None = None,
    **options: Any,
) -> Iterator[Site]:
    """Yields a site that has these lines of images.jsonl, without a network.

    Args:
      folder: a folder with the folder `pictures`, for everything else as well.
      rows: the lines.
      raters: answers wanted for each image.
      rules: fields of `AssignmentRules` that differ from the defaults.
      guide: what raters are told.
      **options: more arguments of `AnnotationApi`.
    """
    listed = folder / "images.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pictures = folder / "pictures"
    with store.open_store(folder / "w") as found:
        found.add_images(task_files.read_tasks(listed, pictures), raters=raters)
        file = tokens.TokenFile(folder / "w")
        strict = assignment.AssignmentRules(**rules or {})
        api = server.AnnotationApi(found, file, pictures, strict, **options)
        app = server.make_app(api, ["localhost", "127.0.0.1"], guide)
        yield Site(app, api, found, file)


@contextlib.contextmanager
def serving(site: Site, *, port: int = 0, **options: Any) -> Iterator[Site]:
    """Serves a site on a port of this machine, with more options of uvicorn.

    Args:
      site: the site, whose `address` is set.
      port: the port; 0 is any that is free.
      **options: of `uvicorn.Config`.
    """
    if not port:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
    config = uvicorn.Config(site.app, port=port, log_level="error", **options)
    runs = uvicorn.Server(config)
    thread = threading.Thread(target=runs.run)
    thread.start()
    for _ in range(1000):
        if runs.started:
            break
        time.sleep(0.01)
    scheme = "https" if config.is_ssl else "http"
    site.address = f"{scheme}://127.0.0.1:{port}"
    try:
        yield site
    finally:
        runs.should_exit = True
        thread.join(10)
