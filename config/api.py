"""The shape of every refusal: a problem document (RFC 9457), whoever refused."""

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response

from accounts.edge.parsing import BodyTooLarge
from accounts.edge.problems import document
from accounts.errors import Conflict, DomainError, FieldError, Invalid, NotAllowed, NotFound, TryLater

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)

_CODES = {405: "method_not_allowed", 415: "unsupported_media_type", 406: "not_acceptable", 429: "rate_limited"}


def problem_for(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer a refusal; None for our own bugs, which Django logs and answers with 500."""
    refusal = refusal_of(error)
    if refusal is None:
        return None
    response = Response(document(refusal, context["request"]), status=refusal.status, content_type=MEDIA_TYPE)
    if refusal.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if refusal.status == 503:
        response["Retry-After"] = "1"
    for name, value in getattr(refusal, "headers", {}).items():
        response[name] = value
    return response


def refusal_of(error: Exception) -> DomainError | None:
    """Translate what Django and DRF raise into our refusals."""
    match error:
        case DomainError():
            return error
        case exceptions.ValidationError():
            return Invalid("Some fields are not valid.", errors=list(_field_errors(error.detail)))
        case Http404() | exceptions.NotFound():
            return NotFound()
        case PermissionDenied() | exceptions.PermissionDenied():
            return NotAllowed()
        case RequestDataTooBig():
            return BodyTooLarge()
        case IntegrityError():
            log.warning("a constraint refused what a verb let through: %s", _named(error))
            return Conflict("Something else changed this at the same time.")
        case DataError():
            log.warning("a value passed the fields and does not fit its column: %s", _named(error))
            return Invalid("A value is out of bounds.")
        case OperationalError():
            log.error("the database did not answer: %s", _named(error))
            return TryLater()
        case exceptions.ParseError():
            return Invalid(str(error.detail))
        case exceptions.APIException():
            refusal = DomainError(str(error.detail))
            refusal.status = error.status_code
            refusal.code = _CODES.get(error.status_code, "invalid_request")
            refusal.title = HTTPStatus(error.status_code).phrase
            return refusal
    return None


def _named(error: Exception) -> str:
    """Name what the database refused, without the values, which are somebody's."""
    diagnosis = getattr(error.__cause__, "diag", None)
    if diagnosis is None or diagnosis.sqlstate is None:
        return type(error.__cause__ or error).__name__
    named = (diagnosis.sqlstate, diagnosis.table_name, diagnosis.column_name, diagnosis.constraint_name)
    return " ".join(part for part in named if part)


def _field_errors(detail: Any, pointer: str = "") -> Iterator[FieldError]:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from _field_errors(inner, pointer if name == "non_field_errors" else f"{pointer}/{_escaped(name)}")
    elif isinstance(detail, list) and not all(isinstance(inner, exceptions.ErrorDetail) for inner in detail):
        for position, inner in enumerate(detail):
            yield from _field_errors(inner, f"{pointer}/{position}")
    else:
        for message in detail if isinstance(detail, list) else [detail]:
            yield FieldError(pointer, getattr(message, "code", "invalid"), str(message))


def _escaped(name: Any) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not request.path.startswith("/v1"):
        return defaults.page_not_found(request, exception)
    return JsonResponse(document(NotFound("There is no such call."), request), status=404, content_type=MEDIA_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not request.path.startswith("/v1"):
        return defaults.bad_request(request, exception)
    return JsonResponse(document(Invalid(), request), status=400, content_type=MEDIA_TYPE)


def server_error(request: HttpRequest) -> HttpResponse:
    if not request.path.startswith("/v1"):
        return defaults.server_error(request)
    bug = DomainError("This is our fault; it has been logged under the request id.")
    bug.status, bug.code, bug.title = 500, "internal_error", "Internal error"
    return JsonResponse(document(bug, request), status=500, content_type=MEDIA_TYPE)
