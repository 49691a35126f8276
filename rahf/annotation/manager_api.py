"""What the manager's page asks for. Needs the extra `annotate` (Starlette)."""

from starlette.requests import Request
from starlette.responses import Response

from rahf.annotation import answer_lines, known_answers, progress, rater_agreement
from rahf.annotation.rater_api import AnnotationApi, Later, RequestError


class ManagerApi:
    """The answers to a manager's requests, one method for each route."""

    def __init__(self, api: AnnotationApi):
        self._store, self._rules, self._person = api.store, api.rules, api.person
        self.agreement = rater_agreement.AgreementWatch(api.store)

    def set_rater(self, request: Request, body: dict) -> dict:
        self._person(request, "manager")
        if not isinstance(body.get("paused"), bool):
            raise RequestError(400, "bad_json", "paused: expected true or false")
        name = request.path_params["name"]
        if body["paused"]:
            with self._store.transaction() as db:
                query = "UPDATE raters SET paused = 'by the manager' WHERE name = ?"
                changed = db.execute(query, (name,)).rowcount > 0
        else:
            changed = known_answers.forgive(self._store, name, self._rules)
        if not changed:
            raise RequestError(404, "not_found", "There is no such rater.")
        return {}

    def again(self, request: Request, body: dict) -> dict:
        self._person(request, "manager")
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

    def image(self, request: Request, body: dict) -> dict:
        del body
        self._person(request, "manager")
        found = progress.answers_to(self._store, request.path_params["id"])
        if found is None:
            raise RequestError(404, "not_found", "There is no such image.")
        return found

    def status(self, request: Request, body: dict) -> Later:
        del body
        self._person(request, "manager")
        return Later(self._status)

    def _status(self) -> dict:
        found = progress.measure(self._store, self._rules)
        agreement = self.agreement.latest()
        raters = agreement.pop("raters")
        for rater in found["raters"]:
            rater["agreement"] = raters.get(rater["name"], {})
        return found | {"agreement": agreement}

    def export(self, request: Request, body: dict) -> Later:
        del body
        self._person(request, "manager")
        return Later(self._export)

    def _export(self) -> Response:
        text = "".join(answer_lines.export_lines(self._store.answers()))
        return Response(text, media_type="application/x-ndjson")
