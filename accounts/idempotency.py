"""
One effect for each key.

The answer is stored in the transaction of its effect, so either both exist or neither; a refusal is not stored.
"""

import hashlib
import json
from typing import Any, NamedTuple

from django.db import connection

from accounts.errors import DomainError, Invalid


class KeyRequired(DomainError):
    status = 400
    code = "idempotency_key_required"
    title = "This call needs an Idempotency-Key"


class KeyInProgress(DomainError):
    status = 409
    code = "idempotency_in_progress"
    title = "A request with this Idempotency-Key is under way"


class KeyReused(DomainError):
    status = 422
    code = "idempotency_key_reused"
    title = "This Idempotency-Key was used for another request"


class Answer(NamedTuple):
    """What the first request with a key was answered."""

    status: int
    body: Any


def well_formed(key: str) -> str:
    """
    Check a key: 1–255 visible ASCII characters.

    :raises Invalid: otherwise
    """
    if not 1 <= len(key) <= 255 or any(not "!" <= character <= "~" for character in key):
        raise Invalid.at("/Idempotency-Key", "invalid_key", "A key is 1 to 255 visible ASCII characters.")
    return key


def fingerprint_of(method: str, path: str, body: Any) -> bytes:
    """Digest what was asked, whatever the order of keys and the white space."""
    asked = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(asked.encode()).digest()


def earlier_answer(scope: str, key: str, *, fingerprint: bytes) -> Answer | None:
    """
    Take the key for this transaction and answer what it was answered before, if it was.

    The lock comes in a statement of its own: the look-up after it must see what the holder before us committed.

    :raises KeyInProgress: while another transaction holds the key
    :raises KeyReused: if it stood for another request
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_lock_number(scope, key)])
        if not cursor.fetchone()[0]:
            raise KeyInProgress
        cursor.execute(
            "SELECT fingerprint, status, answer FROM accounts_idempotencyrecord WHERE scope = %s AND key = %s",
            [scope, key],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    if bytes(row[0]) != fingerprint:
        raise KeyReused
    return Answer(row[1], json.loads(row[2]))


def remember(scope: str, key: str, *, fingerprint: bytes, answer: Answer, keep: bool) -> None:
    """Store the answer beside its effect; `keep` for keys of money, which never expire."""
    with connection.cursor() as cursor:  # written out, because every call does it
        cursor.execute(
            "INSERT INTO accounts_idempotencyrecord (scope, key, fingerprint, status, answer, keep)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [scope, key, fingerprint, answer.status, json.dumps(answer.body, default=str), keep],
        )


def forget_expired(*, hours: int = 24) -> int:
    """Delete answers of ordinary keys after a day."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM accounts_idempotencyrecord"
            " WHERE NOT keep AND created_at < clock_timestamp() - make_interval(hours => %s)",
            [hours],
        )
        return cursor.rowcount


def _lock_number(scope: str, key: str) -> int:
    digest = hashlib.sha256(f"{scope}\n{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
