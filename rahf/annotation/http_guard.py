"""What every request to the annotation server must pass before it is looked at."""

import json
import time
from collections.abc import Collection
from typing import Any

MAX_BODY = 256 * 1024
_SAFE = ("GET", "HEAD")

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src "
    "'self'; img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class RateLimit:
    """Lets each key pass `rate` times a second, `burst` times at once."""

    def __init__(self, rate: float, burst: float):
        self._rate, self._burst = rate, burst
        self._levels: dict[str, tuple[float, float]] = {}

    def passes(self, key: str, now: float | None = None) -> bool:
        """Counts a request and returns whether it is within the limit."""
        now = time.monotonic() if now is None else now
        if len(self._levels) > 10_000:  # many addresses: forget those at rest
            rested = now - self._burst / self._rate
            kept = {k: v for k, v in self._levels.items() if v[1] > rested}
            self._levels = kept
        level, last = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - last) * self._rate)
        passes = level >= 1
        self._levels[key] = (level - passes, now)
        return passes


class RequestGuard:
    """ASGI middleware: the Host allow-list, cross-site requests, size, headers.

    Args:
      app: the application behind it.
      hosts: the values of the Host header that are answered, without ports. Others are
        refused whatever the method, or a page elsewhere could rebind its own name to
        this address and read the answers.
    """

    def __init__(self, app: Any, hosts: Collection[str]):
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message):
            if message["type"] == "http.response.start":
                extra = _HEADERS.items()
                message = message | {
                    "headers": [
                        *message.get("headers", ()),
                        *((k.encode(), v.encode()) for k, v in extra),
                    ]
                }
            await send(message)

        problem, body = self._check(scope), b""
        while problem is None and scope["method"] not in _SAFE:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > MAX_BODY:
                problem = (413, "too_large", f"The limit is {MAX_BODY} bytes.")
            if not message.get("more_body"):
                break
        if problem is not None:
            await _refuse(send_guarded, *problem)
            return
        read = False

        async def receive_body():
            nonlocal read
            if read or scope["method"] in _SAFE:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, send_guarded)

    def _check(self, scope) -> tuple[int, str, str] | None:
        hosts = [v for k, v in scope["headers"] if k == b"host"]
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        if _without_port(host) not in self._hosts:
            return 400, "bad_host", "This server is not known by that name; see --host."
        if scope["method"] in _SAFE:
            return None
        headers = {k: v.decode("latin-1") for k, v in scope["headers"]}
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site is not None:
            own = site in ("same-origin", "none")
        else:  # an old browser sends Origin; a program sends neither
            own = origin is None or origin.partition("://")[2].lower() == host
        if not own:
            return 403, "cross_site", "Another site sent this request."
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            return 415, "not_json", "Expected Content-Type: application/json."
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def _refuse(send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": code, "message": message}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
