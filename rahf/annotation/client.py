"""A program as a rater: the requests of the page, without a browser."""

import http.client
import json
import time
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

# How often a request is sent again that came too soon.
_PATIENCE = 20


class RequestRefusedError(Exception):
    """The server answered with an error.

    Attributes:
      status: the status of HTTP.
      code: the server's word for it, such as `paused`.
    """

    def __init__(self, status: int, code: str, message: str):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code = status, code


class AnnotationClient:
    """One rater's or manager's connection to a server, kept open.

    It is not for several threads at once.

    Args:
      url: the server's address, such as http://127.0.0.1:8000.
      token: whose work it is, as `annotate tokens make` prints it.
      timeout: seconds to wait for the server.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 60.0):
        parts = urllib.parse.urlsplit(url)
        kinds = {
            "http": http.client.HTTPConnection,
            "https": http.client.HTTPSConnection,
        }
        if parts.scheme not in kinds or not parts.hostname:
            raise ValueError(f"url {url!r}: expected http://HOST:PORT or https://...")
        make = kinds[parts.scheme]
        self._connection = make(parts.hostname, parts.port, timeout=timeout)
        self._token = token

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """Sends a request and returns the body of the answer; waits if the server asks
        for it.

        Raises:
          RequestRefusedError: the server refused.
          OSError, http.client.HTTPException: the connection failed.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        data = None
        if method == "POST":
            headers["Content-Type"] = "application/json"
            data = json.dumps({} if body is None else body).encode()
        for _ in range(_PATIENCE):
            try:
                self._connection.request(method, path, data, headers)
                response = self._connection.getresponse()
                found = response.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()  # the next request opens another
                raise
            if response.status != 429:
                break
            time.sleep(int(response.headers.get("retry-after", "1")))
        if response.status != 200:
            try:
                error = json.loads(found)
                code, message = error["error"], error["message"]
            except (ValueError, KeyError, TypeError):
                code, message = "unknown", found[:200].decode("utf-8", "replace")
            raise RequestRefusedError(response.status, code, message)
        return found

    def next(self) -> tuple[dict[str, Any] | None, str | None]:
        """Returns the open assignment or a new one, or None and why there is none:
        `done`, or `wait` while others hold images."""
        found = json.loads(self.request("POST", "/api/next"))
        return found["assignment"], found.get("reason")

    def image(self, assignment: Mapping[str, Any]) -> bytes:
        """Returns an assignment's image, encoded, as the page shows it."""
        return self.request("GET", assignment["image"]["url"])

    def send(
        self, assignment: str, events: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Saves events and returns what the server says about them."""
        path = f"/api/assignments/{assignment}/events"
        return json.loads(self.request("POST", path, {"events": list(events)}))


def new_event(kind: str, **fields: Any) -> dict[str, Any]:
    """Returns an event (`store.Event`) with an id of its own, as a request has it."""
    return {"id": str(uuid.uuid4()), "kind": kind, **fields}
