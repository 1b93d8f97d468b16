"""Bodies that come without a Content-Length (chunked): Django would take them for empty."""

import io
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Measured:
    """Read such a body, up to the largest that anything accepts and one byte more, and state its length."""

    def __init__(self, application: Application) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_TRANSFER_ENCODING") and not environ.get("CONTENT_LENGTH"):
            body = _read(environ["wsgi.input"], settings.MAX_FILE_BYTES + settings.MAX_BODY_BYTES + 1)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return self.application(environ, start_response)


def _read(stream: Any, most: int) -> bytes:
    pieces, missing = [], most
    while missing and (piece := stream.read(min(missing, 65_536))):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
