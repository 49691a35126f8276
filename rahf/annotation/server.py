"""The annotation server: what the page asks for, and what it sends.

Needs the extra `annotate` (Starlette). Images are served by their random ids, never by
path, and only to those who have a token.
"""

import functools
import io
import json
import pathlib
import re
from collections.abc import Callable, Collection
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rahf import images, words
from rahf.annotation import (
    answer_lines,
    assignment,
    event_bodies,
    http_guard,
    progress,
    task_files,
)
from rahf.annotation.records import LabelError
from rahf.annotation.store import (
    AnswerStore,
    DiskFullError,
    LeaseExpiredError,
    NotAssignedError,
)
from rahf.annotation.tokens import Person, TokenFile

COOKIE = "rahf_session"
_PAGE = pathlib.Path(__file__).with_name("page")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


class RequestError(Exception):
    """A request that is answered by an error: status, code, message for the rater."""

    def __init__(self, status: int, code: str, message: str, **extra: Any):
        super().__init__(message)
        self.status = status
        self.body = {"error": code, "message": message} | extra


class AnnotationApi:
    """The answers to requests, one method for each route."""

    def __init__(
        self,
        store: AnswerStore,
        tokens: TokenFile,
        folder: pathlib.Path,
        rules: assignment.AssignmentRules,
        *,
        secure: bool = False,
    ):
        self._store, self._tokens, self._folder = store, tokens, folder.resolve()
        self._rules, self._secure = rules, secure
        self._requests = http_guard.RateLimit(100, 200)
        self._logins = http_guard.RateLimit(1, 20)
        self._scaled = functools.lru_cache(maxsize=64)(self._scale)

    # Session

    def login(self, request: Request, body: dict) -> Response:
        address = request.client.host if request.client else ""
        if not self._logins.passes(address):
            raise _too_fast()
        token = body.get("token")
        person = self._tokens.find(token) if isinstance(token, str) else None
        if person is None or not isinstance(token, str):
            raise RequestError(401, "unknown_token", "This link is not valid.")
        if person.role == "rater":
            self._store.add_rater(person.name)
        response = JSONResponse({"role": person.role, "name": person.name})
        options = {"httponly": True, "samesite": "strict", "secure": self._secure}
        response.set_cookie(COOKIE, token, path="/", max_age=30 * 86400, **options)
        return response

    def logout(self, request: Request, body: dict) -> Response:
        del request, body
        response = JSONResponse({})
        response.delete_cookie(COOKIE, path="/")
        return response

    def person(self, request: Request, role: str | None = None) -> Person:
        """Returns who sent a request; raises RequestError if nobody may have."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            token = request.cookies.get(COOKIE, "")
        person = self._tokens.find(token) if token else None
        if person is None:
            raise RequestError(401, "no_session", "Open your personal link again.")
        if not self._requests.passes(person.name):
            raise _too_fast()
        if role is not None and person.role != role:
            code = f"not_{role}"
            raise RequestError(403, code, f"Only a {role} may do this.")
        if person.role == "rater":
            self._store.add_rater(person.name)
        return person

    # Raters

    def me(self, request: Request, body: dict) -> dict:
        del body
        person = self.person(request)
        rows = self._store.read(
            "SELECT state, qualification, COUNT(*) AS n FROM assignments "
            "WHERE rater = ? GROUP BY state, qualification",
            person.name,
        )
        by_state: dict[str, int] = {}
        for row in rows:
            by_state[row["state"]] = by_state.get(row["state"], 0) + row["n"]
        done = sum(r["n"] for r in rows if r["qualification"] and r["state"] != "open")
        [[total]] = self._store.read("SELECT COUNT(*) FROM images WHERE gold IS NULL")
        [[remaining]] = self._store.read(
            "SELECT COUNT(*) FROM images WHERE load < wanted AND gold IS NULL"
        )
        paused = self._paused(person.name)
        needed = self._rules.qualification
        return {
            "name": person.name,
            "role": person.role,
            "paused": paused is not None,
            "qualified": paused is None and done >= needed,
            "qualification": {"done": done, "needed": needed},
            "progress": {
                "mine": by_state.get("answered", 0),
                "skipped": by_state.get("skipped", 0),
                "total_images": total,
                "remaining": remaining,
            },
        }

    def next(self, request: Request, body: dict) -> dict:
        del body
        person = self.person(request, "rater")
        self._check_paused(person.name)
        taken = assignment.take(self._store, person.name, self._rules)
        if taken is not None:
            return {"assignment": self._describe(taken, person.name)}
        [[waiting]] = self._store.read(
            "SELECT COUNT(*) FROM assignments WHERE state = 'open'"
        )
        return {"assignment": None, "reason": "wait" if waiting else "done"}

    def assignments(self, request: Request, body: dict) -> dict:
        del body
        rows = self._store.read(
            "SELECT id, image AS image_id, state FROM assignments WHERE rater = ? "
            "AND state != 'expired' ORDER BY number",
            self.person(request, "rater").name,
        )
        return {"assignments": [dict(row) for row in rows]}

    def one_assignment(self, request: Request, body: dict) -> dict:
        del body
        name = self.person(request, "rater").name
        return {"assignment": self._describe(request.path_params["id"], name)}

    def events(self, request: Request, body: dict) -> dict:
        name, id_ = self.person(request, "rater").name, request.path_params["id"]
        row = self._assignment(id_, name)
        events = event_bodies.read_events(
            body, row["prompt"], row["width"], row["height"]
        )
        lease = self._rules.lease
        state = self._store.save(id_, name, events, lease=lease)
        if state == "answered":
            assignment.review(self._store, id_, name, self._rules)
        ids = [event.id for event in events]
        return {"saved": ids, "state": state, "lease_seconds": lease}

    def image(self, request: Request, body: dict) -> Response:
        del body
        person = self.person(request)
        rows = self._store.read(
            "SELECT image FROM images i WHERE id = ?1 AND (?2 = 'manager' OR EXISTS "
            "(SELECT 1 FROM assignments WHERE image = i.id AND rater = ?3))",
            *(request.path_params["id"], person.role, person.name),
        )
        if not rows:
            raise RequestError(404, "not_found", "There is no such image.")
        side = request.query_params.get("side", "2048")
        if not re.fullmatch("[0-9]{2,4}", side) or not 64 <= int(side) <= 4096:
            raise RequestError(400, "bad_label", "side: expected 64 to 4096")
        data, kind = self._scaled(rows[0]["image"], int(side))
        headers = {"cache-control": "private, max-age=86400"}
        return Response(data, media_type=kind, headers=headers)

    def _scale(self, name: str, side: int) -> tuple[bytes, str]:
        pixels = images.read_image(task_files.find_image(self._folder, name))
        share = min(1, side / max(pixels.shape[:2]))
        height, width = (max(1, round(share * n)) for n in pixels.shape[:2])
        picture = Image.fromarray(images.resize(pixels, (height, width)))
        file, large = io.BytesIO(), share < 1
        if large:  # it is not the original anyway, and JPEG is ten times as fast
            picture.save(file, "JPEG", quality=92, subsampling=0)
        else:
            picture.save(file, "PNG", compress_level=1)
        return file.getvalue(), "image/jpeg" if large else "image/png"

    def _paused(self, name: str) -> str | None:
        rows = self._store.read("SELECT paused FROM raters WHERE name = ?", name)
        return rows[0]["paused"] if rows else None

    def _check_paused(self, name: str) -> None:
        if self._paused(name) is not None:
            message = "Your work is paused; please ask whoever sent you the link."
            raise RequestError(403, "paused", message)

    def _assignment(self, id_: str, name: str):
        rows = self._store.read(
            "SELECT a.id, a.state, a.qualification, i.id AS image, i.prompt, i.width, "
            "i.height FROM assignments a JOIN images i ON i.id = a.image "
            "WHERE a.id = ? AND a.rater = ?",
            *(id_, name),
        )
        if not rows:
            raise NotAssignedError(id_)
        return rows[0]

    def _describe(self, id_: str, name: str) -> dict:
        row = self._assignment(id_, name)
        draft, seconds = self._store.draft(id_)
        prompt, image = row["prompt"], row["image"]
        return {
            "id": id_,
            "prompt": prompt,
            "words": [
                {"id": number, "text": prompt[start:end], "start": start, "end": end}
                for number, (start, end) in enumerate(words.spans(prompt))
            ],
            "image": {
                "id": image,
                "url": f"/images/{image}?side=2048",
                "width": row["width"],
                "height": row["height"],
            },
            "state": row["state"],
            "lease_seconds": self._rules.lease,
            "draft": draft.to_json() if draft else None,
            "seconds": seconds,
            "qualification": bool(row["qualification"]),
            "radius": 1 / 20,
        }

    # Managers

    def set_rater(self, request: Request, body: dict) -> dict:
        self.person(request, "manager")
        if not isinstance(body.get("paused"), bool):
            raise RequestError(400, "bad_json", "paused: expected true or false")
        reason = "by the manager" if body["paused"] else None
        with self._store.transaction() as db:
            changed = db.execute(
                "UPDATE raters SET paused = ? WHERE name = ?",
                (reason, request.path_params["name"]),
            ).rowcount
        if not changed:
            raise RequestError(404, "not_found", "There is no such rater.")
        return {}

    def again(self, request: Request, body: dict) -> dict:
        self.person(request, "manager")
        more = body.get("raters", 1)
        if type(more) is not int or not 1 <= more <= 100:
            raise RequestError(400, "bad_json", "raters: expected 1 to 100")
        with self._store.transaction() as db:
            changed = db.execute(
                "UPDATE images SET wanted = wanted + ? WHERE id = ?",
                (more, request.path_params["id"]),
            ).rowcount
        if not changed:
            raise RequestError(404, "not_found", "There is no such image.")
        return {}

    def status(self, request: Request, body: dict) -> dict:
        del body
        self.person(request, "manager")
        return progress.measure(self._store, self._rules)

    def export(self, request: Request, body: dict) -> Response:
        del body
        self.person(request, "manager")
        text = "".join(answer_lines.export_lines(self._store.answers()))
        return Response(text, media_type="application/x-ndjson")


def make_app(api: AnnotationApi, hosts: Collection[str]) -> http_guard.RequestGuard:
    """Returns the ASGI application.

    Args:
      api: the answers.
      hosts: names and addresses, without ports, by which the server is addressed.
    """

    def route(path: str, method: str, handler: Callable) -> Route:
        return Route(path, functools.partial(_answer, handler), methods=[method])

    routes = [
        route("/", "GET", lambda request, body: _static("index.html")),
        route("/manager", "GET", lambda request, body: _static("manager.html")),
        route("/page/{name}", "GET", lambda r, body: _static(r.path_params["name"])),
        route("/api/session", "POST", api.login),
        route("/api/session", "DELETE", api.logout),
        route("/api/me", "GET", api.me),
        route("/api/next", "POST", api.next),
        route("/api/assignments", "GET", api.assignments),
        route("/api/assignments/{id}", "GET", api.one_assignment),
        route("/api/assignments/{id}/events", "POST", api.events),
        route("/images/{id}", "GET", api.image),
        route("/api/manager/raters/{name}", "POST", api.set_rater),
        route("/api/manager/images/{id}/again", "POST", api.again),
        route("/api/manager/status", "GET", api.status),
        route("/api/manager/export", "GET", api.export),
    ]
    return http_guard.RequestGuard(Starlette(routes=routes), hosts)


async def _answer(handler: Callable, request: Request) -> Response:
    try:
        body = {}
        if request.method == "POST":
            try:
                body = json.loads(await request.body())
            except (ValueError, RecursionError):
                body = None
            if not isinstance(body, dict):
                raise RequestError(400, "bad_json", "Expected a JSON object.")
        result = await run_in_threadpool(handler, request, body)
    except RequestError as error:
        headers = {"retry-after": "1"} if error.status == 429 else None
        return JSONResponse(error.body, error.status, headers=headers)
    except LabelError as error:
        text, field = str(error), error.field
        result = {"error": "bad_label", "message": text, "field": field}
        return JSONResponse(result, 400)
    except NotAssignedError:
        text = "This image is not assigned to you."
        return JSONResponse({"error": "not_found", "message": text}, 404)
    except LeaseExpiredError:
        text = "The time for this image is over; others have answered it."
        return JSONResponse({"error": "lease_expired", "message": text}, 409)
    except DiskFullError:
        text = "The server's disk is full. Your work is kept in this browser."
        return JSONResponse({"error": "disk_full", "message": text}, 507)
    if isinstance(result, Response):
        return result
    return JSONResponse(result, headers={"cache-control": "no-store"})


def _too_fast() -> RequestError:
    return RequestError(429, "rate_limited", "Too many requests; wait a second.")


def _static(name: str) -> Response:
    path = _PAGE / name
    known = re.fullmatch(r"[a-z0-9_]+(\.[a-z]+)", name)
    if known is None or known[1] not in _TYPES or not path.is_file():
        raise RequestError(404, "not_found", "There is no such page.")
    return Response(path.read_bytes(), media_type=_TYPES[known[1]])
