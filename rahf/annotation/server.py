"""The annotation server: its routes, its pages, and errors as raters read them.

Needs the extra `annotate` (Starlette).
"""

import asyncio
import functools
import json
import pathlib
import re
from collections.abc import Callable, Collection

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rahf.annotation import http_guard, instructions
from rahf.annotation.guide_api import GuideApi
from rahf.annotation.instructions import Instructions
from rahf.annotation.manager_api import ManagerApi
from rahf.annotation.rater_api import AnnotationApi, Later, RequestError
from rahf.annotation.records import LabelError
from rahf.annotation.store import (
    AnswerStore,
    DiskFullError,
    LeaseExpiredError,
    NotAssignedError,
)

_PAGE = pathlib.Path(__file__).with_name("page")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


def make_app(
    api: AnnotationApi, hosts: Collection[str], guide: Instructions | None = None
) -> http_guard.RequestGuard:
    """Returns the ASGI application.

    Args:
      api: the answers.
      hosts: names and addresses, without ports, by which the server is addressed.
      guide: what raters are told; None for the built-in text and examples.
    """

    def route(path: str, method: str, handler: Callable) -> Route:
        answer = functools.partial(_answer, api.store, handler)
        return Route(path, answer, methods=[method])

    manager = ManagerApi(api)
    told = GuideApi(api, guide or instructions.read())
    routes = [
        route("/", "GET", lambda request, body: _static("index.html")),
        route("/manager", "GET", lambda request, body: _static("manager.html")),
        route("/page/{name}", "GET", lambda r, body: _static(r.path_params["name"])),
        route("/api/session", "POST", api.login),
        route("/api/session", "DELETE", api.logout),
        route("/api/me", "GET", api.me),
        route("/api/next", "POST", api.next),
        route("/api/release", "POST", api.release),
        route("/api/assignments", "GET", api.assignments),
        route("/api/assignments/{id}", "GET", api.one_assignment),
        route("/api/assignments/{id}/events", "POST", api.events),
        route("/images/{id}", "GET", api.image),
        route("/api/instructions", "GET", told.text),
        route("/api/instructions/examples/{number}", "GET", told.example),
        route("/api/manager/raters/{name}", "POST", manager.set_rater),
        route("/api/manager/images/{id}", "GET", manager.image),
        route("/api/manager/images/{id}/again", "POST", manager.again),
        route("/api/manager/status", "GET", manager.status),
        route("/api/manager/export", "GET", manager.export),
    ]
    return http_guard.RequestGuard(Starlette(routes=routes), hosts)


async def _answer(store: AnswerStore, handler: Callable, request: Request) -> Response:
    try:
        body = {}
        if request.method == "POST":
            try:
                body = json.loads(await request.body())
            except (ValueError, RecursionError):
                body = None
            if not isinstance(body, dict):
                raise RequestError(400, "bad_json", "Expected a JSON object.")
        step = functools.partial(handler, request, body)
        result = await asyncio.wrap_future(store.submit(step))
        if isinstance(result, Later):
            result = await run_in_threadpool(result.work)
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


def _static(name: str) -> Response:
    path = _PAGE / name
    known = re.fullmatch(r"[a-z0-9_]+(\.[a-z]+)", name)
    if known is None or known[1] not in _TYPES or not path.is_file():
        raise RequestError(404, "not_found", "There is no such page.")
    return Response(path.read_bytes(), media_type=_TYPES[known[1]])
