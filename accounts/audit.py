"""
The audit log: what staff did, and the sensitive things agents did.

`record` adds a row in the transaction of the change itself and waits for nobody; `seal` links the rows into a chain
later, and `verify` reads it again.
"""

import contextvars
import hashlib
import json
from datetime import datetime
from typing import Any

import rfc8785
from django.db import connection
from django.db.models import Model

from accounts.audit_chain import head, keep_sealed, seal
from accounts.audit_verification import verify
from accounts.models import Agent, User

__all__ = ["command", "head", "keep_sealed", "origin", "read", "record", "seal", "state_of", "verify"]

# Where the request of this context came from: (address, request id); empty outside of requests.
origin: contextvars.ContextVar[tuple[str, str]] = contextvars.ContextVar("audit_origin", default=("", ""))


def record(
    action: str,
    *,
    user: User | None = None,
    agent: Agent | None = None,
    subject: str = "",
    before: Any = None,
    after: Any = None,
    facts: dict[str, Any] | None = None,
    reason: str = "",
    at: datetime | None = None,
) -> None:
    """
    Write down who did what to what, and why.

    `before` and `after` are JSON values, of which only the SHA-256 digests are kept; `facts` are kept as they are.
    """
    address, request_id = origin.get()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_auditrecord (action, user_id, agent_id, subject, before, after, facts, reason,"
            " address, request_id, occurred_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, coalesce(%s, clock_timestamp()))",
            [
                action,
                user.pk if user else None,
                agent.pk if agent else None,
                subject,
                _digest(before),
                _digest(after),
                json.dumps(facts or {}),
                reason,
                address,
                request_id,
                at,
            ],
        )


def command(name: str, *, subject: str = "", reason: str = "", **facts: Any) -> None:
    """Write down that somebody changed something by a management command, on a machine: no person is known."""
    record(f"command.{name}", subject=subject, facts={"command": name, **facts}, reason=reason)


def state_of(row: Model) -> dict[str, Any]:
    """Write a row as JSON, for `before` and `after`: all its columns, of which the log keeps a digest alone."""
    return {field.attname: _plain(getattr(row, field.attname)) for field in row._meta.concrete_fields}


def read(user: User, subject: str, what: str, **facts: Any) -> None:
    """
    Write down that a person was shown what is not theirs: personal data (`what` = "personal_data"), an exported case.

    A page that shows such a thing calls this before it answers.
    """
    record(f"read.{what}", user=user, subject=subject, facts=facts)


def _plain(value: Any) -> Any:
    """What has no JSON of its own, or not one that is exact, is written as text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _digest(value: Any) -> bytes | None:
    return None if value is None else hashlib.sha256(rfc8785.dumps(value)).digest()
