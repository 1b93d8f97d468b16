"""A refusal, written as a problem document (RFC 9457)."""

from typing import Any

from accounts.edge import requests
from accounts.errors import DomainError


def document(error: DomainError, request: Any) -> dict[str, Any]:
    """Write `{type, title, status, detail, code, request_id, errors?, …}`."""
    problem: dict[str, Any] = {
        "type": f"urn:bailee:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": requests.request_id(request),
        **error.members,
    }
    if error.errors:
        problem["errors"] = [field._asdict() for field in error.errors]
    return problem
