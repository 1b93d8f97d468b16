"""
Sealing the audit log: a hash chain over its records, written by one sealer while nobody waits for it.

Ids are drawn before their transactions commit, so a lower id may appear after a higher one. Records are therefore
linked in the order (epoch, xid, id), and only those below `pg_snapshot_xmin`: no open transaction can add one before
them. The head is published (log, /v1/solvency): whoever kept one can tell whether the log was rewritten up to it.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from django.db import connection, transaction

from accounts import alerts, clock
from accounts.models import AuditSeal

log = structlog.get_logger(__name__)

LIMIT = 2_000  # records in a transaction: a slow machine hashes them well within its five seconds
LATE = timedelta(minutes=5)
BEFORE_THE_FIRST = bytes(32)

# What is hashed of a record, in the order in which it is read. A further column is no part of it until old records
# can be told from new ones: their hashes stand for ever.
COLUMNS = (
    "id", "epoch", "xid", "action", "user_id", "agent_id", "subject", "before", "after", "facts", "reason", "address",
    "request_id", "occurred_at",
)  # fmt: skip
# The same in SQL, each as a value that the driver reads in one way.
SELECTED = (
    "r.id, r.epoch, r.xid::text, r.action, r.user_id::text, r.agent_id::text, r.subject, r.before, r.after,"
    " r.facts::text, r.reason, r.address, r.request_id, r.occurred_at"
)
# No transaction is open that could still add a record before such a one.
FINISHED = "(r.epoch < accounts_event_epoch() OR r.xid < pg_snapshot_xmin(pg_current_snapshot()))"


class ChainBroken(Exception):
    """The chain does not end where it was last sealed: somebody changed it, and nothing is linked to such an end."""


class Head(NamedTuple):
    """The last link, and the place of its record in the order of transactions."""

    position: int
    chain_hash: bytes
    order: tuple[int, str, int]


START = Head(0, BEFORE_THE_FIRST, (0, "0", 0))


@transaction.atomic
def seal(*, limit: int = LIMIT) -> AuditSeal | None:
    """
    Link the oldest records that are committed for good, and seal the new head; None if nothing was to be done.

    One sealer works at a time, another one leaves it to that one.

    :raises ChainBroken: if the end of the chain is not the one that was sealed last
    """
    if not _alone():
        return None
    end = _end()
    rows = _after(end, limit)
    if not rows:
        return None
    at = clock.now()
    links, chain_hash = [], end.chain_hash
    for position, row in enumerate(rows, start=end.position + 1):
        digest = hash_of(row)
        chain_hash = linked(chain_hash, digest)
        links.append((position, row[0], digest, chain_hash))
    _write(links, at)
    sealed = AuditSeal.objects.create(position=links[-1][0], chain_hash=chain_hash, sealed_at=at)
    transaction.on_commit(lambda: _publish(sealed), robust=True)
    return sealed


def keep_sealed() -> None:
    """Seal all there is, batch by batch, and tell operators of what is late or broken."""
    try:
        before = _position()
        while (sealed := seal(limit=LIMIT)) and sealed.position - before >= LIMIT:
            before = sealed.position
    except ChainBroken as broken:
        alerts.sound("audit_broken", detail=f"{broken}. Run `manage.py verify_audit`.")
        return
    alerts.clear("audit_broken")
    oldest = oldest_unsealed()
    if oldest is not None and clock.now() - oldest > LATE:
        alerts.sound("audit_seal_late", detail=f"A record of {time_text(oldest)} is not sealed yet.")
    else:
        alerts.clear("audit_seal_late")


def head() -> dict[str, Any] | None:
    """Read the head as it was sealed last: {position, chain_hash (hex), sealed_at}; None before the first seal."""
    sealed = AuditSeal.objects.order_by("-position").first()
    if sealed is None:
        return None
    return {
        "position": sealed.position,
        "chain_hash": bytes(sealed.chain_hash).hex(),
        "sealed_at": time_text(sealed.sealed_at),
    }


def oldest_unsealed() -> datetime | None:
    """Tell the time of the oldest record that is committed and stands behind the head."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(occurred_at) FROM accounts_auditrecord WHERE (epoch, xid, id) > ("
            " SELECT coalesce(max(epoch), 0), coalesce(max(xid), '0'::xid8), coalesce(max(id), 0)"
            " FROM accounts_auditrecord WHERE id ="
            " (SELECT record_id FROM accounts_auditlink ORDER BY position DESC LIMIT 1))"
        )
        return cursor.fetchone()[0]


# --- hashes ---------------------------------------------------------------------------------------------------------
def hash_of(row: Sequence[Any]) -> bytes:
    """
    Hash a record as it was SELECTED: SHA-256 of the canonical JSON of all its columns.

    Canonical: keys sorted, no white space, UTF-8; digests in hex, times in UTC to the microsecond, the transaction id
    as text.
    """
    values = dict(zip(COLUMNS, row, strict=True))
    values |= {name: None if values[name] is None else bytes(values[name]).hex() for name in ("before", "after")}
    values |= {"facts": json.loads(values["facts"]), "occurred_at": time_text(values["occurred_at"])}
    return hashlib.sha256(
        json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).digest()


def linked(before: bytes, digest: bytes) -> bytes:
    """Hash the next link: SHA-256(chain hash before || hash of the record)."""
    return hashlib.sha256(before + digest).digest()


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- rows -----------------------------------------------------------------------------------------------------------
def _alone() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('audit.seal'))")
        return cursor.fetchone()[0]


def _end() -> Head:
    """Find where the chain ends, by a statement of its own: it sees what the sealer before committed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT last.position, last.chain_hash, sealed.position, sealed.chain_hash, r.epoch, r.xid::text, r.id"
            " FROM (SELECT * FROM accounts_auditlink ORDER BY position DESC LIMIT 1) AS last"
            " FULL JOIN (SELECT * FROM accounts_auditseal ORDER BY position DESC LIMIT 1) AS sealed ON true"
            " LEFT JOIN accounts_auditrecord r ON r.id = last.record_id"
        )
        found = cursor.fetchone()
    if found is None:
        return START
    position, chain_hash, sealed_position, sealed_hash, *order = found
    if (position, chain_hash) != (sealed_position, sealed_hash):
        raise ChainBroken(f"The chain ends at {position or 0} and was sealed at {sealed_position or 0}")
    if None in order:
        raise ChainBroken(f"The record at the head, {position}, is gone")
    return Head(position, bytes(chain_hash), tuple(order))


def _after(end: Head, limit: int) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {SELECTED} FROM accounts_auditrecord r"
            f" WHERE (r.epoch, r.xid, r.id) > (%s, %s::xid8, %s) AND {FINISHED}"
            " ORDER BY r.epoch, r.xid, r.id LIMIT %s",
            [*end.order, limit],
        )
        return cursor.fetchall()


def _write(links: list[tuple[int, int, bytes, bytes]], at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_auditlink (position, record_id, record_hash, chain_hash, sealed_at)"
            " SELECT *, %s FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[], %s::bytea[])",
            [at, *(list(column) for column in zip(*links, strict=True))],
        )


def _position() -> int:
    sealed = AuditSeal.objects.order_by("-position").first()
    return sealed.position if sealed else 0


def _publish(sealed: AuditSeal) -> None:
    log.info("audit_sealed", position=sealed.position, chain_hash=sealed.chain_hash.hex())
