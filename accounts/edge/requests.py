"""What every request carries: an id that answers, logs and problems share, and the address it came from."""

import re
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts import ids

_ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestId:
    """Accept a sensible `X-Request-Id`, make one otherwise; every line that is logged has it, and the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request.META["HTTP_X_REQUEST_ID"] = given if _ACCEPTED.fullmatch(given) else str(ids.uuid7())
        # Bound until the next request of this thread: Django logs a refusal after the last middleware returned.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.META["HTTP_X_REQUEST_ID"])
        response = self.get_response(request)
        response["X-Request-Id"] = request.META["HTTP_X_REQUEST_ID"]
        return response


def request_id(request: Any) -> str:
    return request.META.get("HTTP_X_REQUEST_ID", "")


def client_address(request: Any) -> str:
    """Name the address that made the request: the one our outermost proxy saw."""
    proxies = settings.TRUSTED_PROXIES or 0
    forwarded = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    if proxies and len(forwarded) >= proxies:
        return forwarded[-proxies]
    return request.META.get("REMOTE_ADDR", "")
