"""What a rater's page asks for and sends. Needs the extra `annotate` (Starlette).

Images are served by their random ids, never by path, and only to those who have a token.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rahf.annotation import assignment, event_bodies, http_guard, known_answers, pace
from rahf.annotation.page_images import PageImages
from rahf.annotation.records import describe_words
from rahf.annotation.store import AnswerStore, Event, NotAssignedError, loads
from rahf.annotation.tokens import Person, TokenFile

COOKIE = "rahf_session"
# Raters hear of the images that are open in steps of so many.
_ROUGHLY = 100


class RequestError(Exception):
    """A request that is answered by an error: status, code, message for the rater."""

    def __init__(self, status: int, code: str, message: str, **extra: Any):
        super().__init__(message)
        self.status = status
        self.body = {"error": code, "message": message} | extra


@dataclasses.dataclass(frozen=True)
class Later:
    """The rest of an answer, which takes time and writes nothing."""

    work: Callable[[], Any]


class AnnotationApi:
    """The answers to the requests of raters, one method for each route.

    A method runs as one step of the store (`AnswerStore.submit`), so that it must be
    quick: what is not, and only reads, it returns as `Later`.
    """

    def __init__(
        self,
        store: AnswerStore,
        tokens: TokenFile,
        folder: pathlib.Path,
        rules: assignment.AssignmentRules,
        *,
        secure: bool = False,
        show_guesses: bool = False,
    ):
        self._show_guesses = show_guesses
        self.store, self.rules = store, rules
        self._tokens, self._secure = tokens, secure
        self._images = PageImages(folder)
        self._requests = http_guard.RateLimit(100, 200)
        self._logins = http_guard.RateLimit(1, 20)

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
            self.store.add_rater(person.name)
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
            self.store.add_rater(person.name)
        return person

    # Raters

    def me(self, request: Request, body: dict) -> dict:
        del body
        person = self.person(request)
        rows = self.store.read(
            "SELECT state, COUNT(*) AS n FROM assignments WHERE rater = ? "
            "GROUP BY state",
            person.name,
        )
        states = ("answered", "skipped")
        mine, skipped = (sum(r["n"] for r in rows if r["state"] == s) for s in states)
        paused = self._paused(person.name) is not None
        tried = known_answers.practice(self.store, person.name, self.rules)
        return {
            "name": person.name,
            "role": person.role,
            "paused": paused,
            "qualified": not paused and tried.done >= tried.needed,
            "qualification": {
                "done": tried.done,
                "needed": tried.needed,
                "passed": tried.passed,
                "least": tried.least,
            },
            "progress": {
                "mine": mine,
                "skipped": skipped,
                "at_most": self._at_most(),
            },
            "pace": pace.rounded(pace.rater_pace(self.store, person.name)),
        }

    def _at_most(self) -> int | None:
        """Returns roughly how many images need raters, None if they are few.

        An exact number would fall with each real image that is handed out and with no
        known answer, so that the page would tell them apart.
        """
        [[open_]] = self.store.read(
            "SELECT COUNT(*) FROM images WHERE load < wanted AND gold IS NULL"
        )
        return -(-open_ // _ROUGHLY) * _ROUGHLY if open_ > _ROUGHLY else None

    def next(self, request: Request, body: dict) -> dict:
        name = self.person(request, "rater").name
        self._check_same(body, name)
        self._check_paused(name)
        held = _ids(body, "holding")
        gone = assignment.hold(self.store, name, held, self.rules)
        taken = assignment.take(self.store, name, self.rules, holding=held)
        if taken is not None:
            return {"assignment": self._describe(taken, name), "gone": gone}
        if assignment.holds_enough(self.store, name, self.rules):
            return {"assignment": None, "reason": "enough", "gone": gone}
        [[waiting]] = self.store.read(
            "SELECT COUNT(*) FROM assignments o JOIN images i ON i.id = o.image WHERE "
            "state = 'open' AND gold IS NULL AND NOT EXISTS (SELECT 1 FROM assignments "
            "WHERE image = o.image AND rater = ? AND state != 'expired')",
            name,
        )
        reason = "wait" if waiting else "done"
        return {"assignment": None, "reason": reason, "gone": gone}

    def release(self, request: Request, body: dict) -> dict:
        name = self.person(request, "rater").name
        self._check_same(body, name)
        assignment.release(self.store, name, _ids(body, "ids"))
        return {}

    def assignments(self, request: Request, body: dict) -> dict:
        del body
        rows = self.store.read(
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
        self._check_same(body, name)
        row = self._assignment(id_, name)
        events = event_bodies.read_events(
            body, row["prompt"], row["width"], row["height"]
        )
        if row["qualification"] and row["state"] in ("answered", "skipped"):
            self._check_known(id_, events)
        lease = self.rules.lease
        state = self.store.save(id_, name, events, lease=lease)
        if row["is_gold"] and state != "open":
            known_answers.judge(self.store, name, self.rules)
        elif state == "answered":
            assignment.review(self.store, id_, self.rules)
        ids = [event.id for event in events]
        return {"saved": ids, "state": state, "lease_seconds": lease}

    def image(self, request: Request, body: dict) -> Later:
        del body
        person = self.person(request)
        rows = self.store.read(
            "SELECT image FROM images i WHERE id = ?1 AND (?2 = 'manager' OR EXISTS "
            "(SELECT 1 FROM assignments WHERE image = i.id AND rater = ?3))",
            *(request.path_params["id"], person.role, person.name),
        )
        if not rows:
            raise RequestError(404, "not_found", "There is no such image.")
        side = request.query_params.get("side", "2048")
        if not re.fullmatch("[0-9]{2,4}", side) or not 64 <= int(side) <= 4096:
            raise RequestError(400, "bad_label", "side: expected 64 to 4096")
        name = rows[0]["image"]

        def send() -> Response:
            data, kind = self._images.encode(name, int(side))
            headers = {"cache-control": "private, max-age=86400"}
            return Response(data, media_type=kind, headers=headers)

        return Later(send)

    def _paused(self, name: str) -> str | None:
        rows = self.store.read("SELECT paused FROM raters WHERE name = ?", name)
        return rows[0]["paused"] if rows else None

    def _check_same(self, body: dict, name: str) -> None:
        """Refuses what a page sends for someone else than the browser's session."""
        if body.get("rater", name) != name:
            text = f"This browser now belongs to {name}. Open your personal link again."
            raise RequestError(401, "no_session", text)

    def _check_known(self, id_: str, events: Sequence[Event]) -> None:
        """Refuses new events: the rater has seen what was expected."""
        query = "SELECT id FROM events WHERE assignment = ?"
        known = {row["id"] for row in self.store.read(query, id_)}
        if not {event.id for event in events} <= known:
            text = "The answer to a practice image cannot be changed."
            raise RequestError(409, "final", text)

    def _check_paused(self, name: str) -> None:
        if self._paused(name) is not None:
            tried = known_answers.practice(self.store, name, self.rules)
            if tried.failed:
                text = (
                    f"{tried.passed} of your answers to {tried.needed} practice images "
                    f"met the known ones, {tried.least} are needed. Please ask whoever "
                    "sent you the link."
                )
                raise RequestError(403, "paused", text)
            message = "Your work is paused; please ask whoever sent you the link."
            raise RequestError(403, "paused", message)

    def _assignment(self, id_: str, name: str):
        rows = self.store.read(
            "SELECT a.id, a.state, a.qualification, i.id AS image, i.prompt, i.width, "
            "i.height, i.gold IS NOT NULL AS is_gold, i.guess, a.guess_shown "
            "FROM assignments a JOIN images i ON i.id = a.image "
            "WHERE a.id = ? AND a.rater = ?",
            *(id_, name),
        )
        if not rows:
            raise NotAssignedError(id_)
        return rows[0]

    def _describe(self, id_: str, name: str) -> dict:
        row = self._assignment(id_, name)
        draft, seconds = self.store.draft(id_)
        prompt, image = row["prompt"], row["image"]
        result = None
        if row["qualification"]:
            result = known_answers.practice_result(self.store, id_, self.rules)
        return {
            "id": id_,
            "prompt": prompt,
            "words": describe_words(prompt),
            "image": {
                "id": image,
                "url": f"/images/{image}?side=2048",
                "width": row["width"],
                "height": row["height"],
            },
            "state": row["state"],
            "lease_seconds": self.rules.lease,
            "draft": draft.to_json() if draft else None,
            "guess": self._show_guess(row),
            "seconds": seconds,
            "qualification": bool(row["qualification"]),
            "result": result and {"right": result[0], "expected": result[1].to_json()},
            "radius": 1 / 20,
        }

    def _show_guess(self, row) -> dict | None:
        """Returns the model's guess if raters may see it, and records that they did."""
        guess = loads(row["guess"]) if self._show_guesses else None
        if guess is not None and not row["guess_shown"]:
            with self.store.transaction() as db:
                query = "UPDATE assignments SET guess_shown = 1 WHERE id = ?"
                db.execute(query, (row["id"],))
        return None if guess is None else guess.to_json()


def _ids(body: dict, field: str) -> list[str]:
    listed = body.get(field, [])
    right = isinstance(listed, list) and len(listed) <= 100
    if not right or not all(isinstance(id_, str) and id_.isascii() for id_ in listed):
        text = f"{field}: expected at most 100 ids of assignments"
        raise RequestError(400, "bad_json", text)
    return listed


def _too_fast() -> RequestError:
    return RequestError(429, "rate_limited", "Too many requests; wait a second.")
