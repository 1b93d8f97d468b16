"""
Refusals.

A refusal is a class with a stable `code`, beside the function that raises it; the ones that many functions share are
here. What is not a `DomainError` is our bug.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self


class FieldError(NamedTuple):
    """What is wrong with one field: a JSON pointer (RFC 6901), a stable code, a sentence."""

    pointer: str
    code: str
    detail: str


class DomainError(Exception):
    """
    A refusal that the caller is told about as a problem document (RFC 9457).

    Further keyword arguments become members of that document.
    """

    status = 409
    code = "conflict"
    title = "This cannot be done now"
    # What the edge does in a transaction of its own, after the refused one was rolled back: telling somebody, mostly.
    afterwards: Callable[[], None] | None = None

    def __init__(self, detail: str = "", *, errors: list[FieldError] | None = None, **members: Any) -> None:
        self.detail = detail or f"{self.title}."
        self.errors = errors or []
        self.members = members
        super().__init__(self.detail)

    @classmethod
    def at(cls, pointer: str, code: str, detail: str) -> Self:
        """Refuse one field."""
        return cls(detail, errors=[FieldError(pointer, code, detail)])


class Invalid(DomainError):
    status = 400
    code = "invalid_request"
    title = "The request is not valid"


class NotAvailable(DomainError):
    status = 400
    code = "not_available"
    title = "This is not available yet"


class Unauthenticated(DomainError):
    status = 401
    code = "unauthenticated"
    title = "A valid token is needed"


class NotAllowed(DomainError):
    status = 403
    code = "not_allowed"
    title = "You may not do this"


class ScopeMissing(DomainError):
    status = 403
    code = "scope_missing"
    title = "The token lacks the scope of this operation"


class NotFound(DomainError):
    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(DomainError):
    pass


class Paused(DomainError):
    status = 503
    code = "paused"
    title = "New business is paused"


class TryLater(DomainError):
    status = 503
    code = "try_later"
    title = "Try again in a moment"
