"""What pages show before the work begins. Needs the extra `annotate` (Starlette)."""

from starlette.requests import Request
from starlette.responses import Response

from rahf.annotation.instructions import Instructions
from rahf.annotation.page_images import PageImages
from rahf.annotation.rater_api import AnnotationApi, Later, RequestError

# The longer side of an example as pages get it, in pixels.
_SIDE = 1024


class GuideApi:
    """Instructions and examples, for everybody who has a token."""

    def __init__(self, api: AnnotationApi, guide: Instructions):
        self._person, self._guide = api.person, guide
        self._images = PageImages(guide.folder)

    def text(self, request: Request, body: dict) -> dict:
        del body
        self._person(request)
        return self._guide.to_json()

    def example(self, request: Request, body: dict) -> Later:
        del body
        self._person(request)
        names = {str(n): each.image for n, each in enumerate(self._guide.examples)}
        name = names.get(request.path_params["number"])
        if name is None:
            raise RequestError(404, "not_found", "There is no such example.")

        def send() -> Response:
            data, kind = self._images.encode(name, _SIDE)
            headers = {"cache-control": "private, max-age=3600"}
            return Response(data, media_type=kind, headers=headers)

        return Later(send)
