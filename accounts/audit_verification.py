"""
Verifying the audit log: read it all again, and name the first row that is not as it was sealed.

Only what was kept elsewhere proves that nobody rewrote the log from end to end: give a published head as `expect`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection

from accounts.audit_chain import BEFORE_THE_FIRST, COLUMNS, LATE, SELECTED, hash_of, linked, time_text
from accounts.models import AuditLink, AuditSeal

BATCH = 2_000
# Longer than any transaction, and than clocks differ after a failover: times run forward in the chain but for that.
TOLERANCE = timedelta(hours=1)


class Kept(NamedTuple):
    """A head that somebody kept."""

    position: int
    chain_hash: bytes


class Tampered(Exception):
    """A row that is not as it was sealed; the text names it."""


def verify(
    expect: Kept | None = None, *, since: int = 0, progress: Callable[[int, int], None] = lambda done, end: None
) -> list[str]:
    """
    Read the whole log, or what was linked after `since`, and say what is wrong with the first row that is not right.

    An empty list says that all is as it was sealed, and as `expect` has it. `progress` is told the position reached
    and the last one, batch by batch.
    """
    try:
        end = _ends()
        walk = _Walk.beginning(since, expect)
        for link in _links(since, end):
            walk.step(link)
            if link.position % BATCH == 0:
                progress(link.position, end)
        walk.finish(end)
        _require_kept(expect, end)
        _require_linked(walk.order)
    except Tampered as found:
        return [str(found)]
    return []


class _Link(NamedTuple):
    position: int
    record_id: int
    record_hash: bytes
    chain_hash: bytes
    sealed_at: datetime
    seal_hash: bytes | None  # of the seal at this position, where there is one
    seal_at: datetime | None
    record: tuple[Any, ...]

    @property
    def order(self) -> tuple[int, int, int]:
        return self.record[1], int(self.record[2]), self.record[0]

    @property
    def occurred_at(self) -> datetime:
        return self.record[COLUMNS.index("occurred_at")]

    def __str__(self) -> str:
        return f"record {self.record_id} at position {self.position}"


class _Walk:
    """Along the chain, from a head that is taken as given."""

    def __init__(self, position: int, chain_hash: bytes, expect: Kept | None) -> None:
        self.position = position
        self.chain_hash = chain_hash
        self.expect = expect
        self.order = (0, 0, 0)
        self.latest: datetime | None = None  # that anything before surely happened, or was sealed
        self.last: _Link | None = None

    @classmethod
    def beginning(cls, since: int, expect: Kept | None) -> _Walk:
        """Begin at the first record, or after a link; one that was kept is compared with what was kept."""
        if not since:
            return cls(0, BEFORE_THE_FIRST, expect)
        given = next(_links(since - 1, since), None)
        if given is None:
            raise Tampered(f"link {since} is missing: there is nothing to begin after")
        walk = cls(since, given.chain_hash, expect)
        walk._require_record(given)
        walk._require_expected(given)
        walk.order, walk.latest, walk.last = given.order, min(given.occurred_at, given.sealed_at), given
        return walk

    def step(self, link: _Link) -> None:
        """Take the next link, or say what is wrong with it."""
        if link.position != self.position + 1:
            raise Tampered(f"link {self.position + 1} is missing: the chain goes from {self.position} to {link}")
        self._require_sealed_before(link)
        self._require_record(link)
        if link.order <= self.order:
            raise Tampered(f"{link} is out of order: it belongs before the record that is linked before it")
        if hash_of(link.record) != link.record_hash:
            raise Tampered(f"{link} was edited, or took another one's place: it is not what was sealed")
        self.chain_hash = linked(self.chain_hash, link.record_hash)
        if self.chain_hash != link.chain_hash:
            raise Tampered(f"link {link.position} (record {link.record_id}) does not follow from the one before it")
        if link.seal_hash is not None and (link.seal_hash, link.seal_at) != (link.chain_hash, link.sealed_at):
            raise Tampered(f"{link} is not what the seal at {link.position} was put on")
        self._require_expected(link)
        self._require_time(link)
        self.position, self.order, self.last = link.position, link.order, link

    def finish(self, end: int) -> None:
        if self.position != end:
            raise Tampered(f"link {self.position + 1} is missing: the chain was cut off before {end}")

    @staticmethod
    def _require_record(link: _Link) -> None:
        if link.record[0] is None:
            raise Tampered(f"{link} was deleted")

    def _require_sealed_before(self, link: _Link) -> None:
        """Each sealing ends with a seal."""
        last = self.last
        if last is not None and last.sealed_at != link.sealed_at and last.seal_hash is None:
            raise Tampered(f"the seal at {last.position} (record {last.record_id}) is missing")

    def _require_expected(self, link: _Link) -> None:
        expect = self.expect
        if expect is not None and expect.position == link.position and expect.chain_hash != link.chain_hash:
            raise Tampered(
                f"{link} is not what was published: the log was rewritten there or before, the chain hash is"
                f" {link.chain_hash.hex()} and was {expect.chain_hash.hex()}"
            )

    def _require_time(self, link: _Link) -> None:
        """A record is written when it happens: one among younger ones, or from after its sealing, was made up."""
        if self.latest is not None and link.occurred_at < self.latest - TOLERANCE:
            raise Tampered(f"{link} is backdated: it says {time_text(link.occurred_at)}, among younger records")
        if link.occurred_at > link.sealed_at + TOLERANCE:
            raise Tampered(f"{link} is dated {time_text(link.occurred_at)}, after it was sealed")
        sure = min(link.occurred_at, link.sealed_at)
        self.latest = sure if self.latest is None else max(self.latest, sure)


def _ends() -> int:
    """Find the last position, by chain and by seals: one statement, so that no sealing comes between."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT max(position) FROM accounts_auditlink), 0),"
            " coalesce((SELECT max(position) FROM accounts_auditseal), 0)"
        )
        linked_to, sealed_to = cursor.fetchone()
    if linked_to > sealed_to:
        first = AuditLink.objects.filter(position__gt=sealed_to).order_by("position").first()
        assert first is not None  # noqa: S101 (links are never deleted by us)
        raise Tampered(f"record {first.record_id} at position {first.position} is linked, but under no seal")
    if sealed_to > linked_to:
        seal = AuditSeal.objects.get(position=sealed_to)
        raise Tampered(
            f"link {linked_to + 1} is missing: the log was cut off there, it was sealed up to {sealed_to} at"
            f" {time_text(seal.sealed_at)}"
        )
    return linked_to


def _links(since: int, end: int) -> Iterator[_Link]:
    """Read links with their records and seals, in batches: the log may be longer than the memory."""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT l.position, l.record_id, l.record_hash, l.chain_hash, l.sealed_at, s.chain_hash, s.sealed_at,"
                f" {SELECTED} FROM accounts_auditlink l"
                " LEFT JOIN accounts_auditrecord r ON r.id = l.record_id"
                " LEFT JOIN accounts_auditseal s ON s.position = l.position"
                " WHERE l.position > %s AND l.position <= %s ORDER BY l.position LIMIT %s",
                [since, end, BATCH],
            )
            rows = cursor.fetchall()
        if not rows:
            return
        for row in rows:
            yield _Link._make((*row[:7], row[7:]))
        since = rows[-1][0]


def _require_kept(expect: Kept | None, end: int) -> None:
    if expect is not None and expect.position > end:
        raise Tampered(
            f"link {end + 1} is missing: the log was cut off there, a head at {expect.position} was published"
        )


def _require_linked(head: tuple[int, int, int]) -> None:
    """
    Find the first record that the chain passed over, that no transaction can have written, or that waits too long.

    What is sealed while we look has its link in the same snapshot.
    """
    epoch, xid, number = head
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM (SELECT r.id, r.occurred_at, (r.epoch, r.xid, r.id) < (%s, %s::xid8, %s) AS passed_over,"
            " r.epoch > accounts_event_epoch()"
            "   OR r.epoch = accounts_event_epoch() AND r.xid >= pg_snapshot_xmax(pg_current_snapshot()) AS unborn,"
            " r.occurred_at < clock_timestamp() - %s::float * interval '1 second' AS late, r.epoch, r.xid"
            " FROM accounts_auditrecord r"
            " WHERE NOT EXISTS (SELECT FROM accounts_auditlink l WHERE l.record_id = r.id)) AS unsealed"
            " WHERE passed_over OR unborn OR late ORDER BY epoch, xid, id LIMIT 1",
            [epoch, str(xid), number, LATE.total_seconds()],
        )
        found = cursor.fetchone()
    if found is None:
        return
    record_id, occurred_at, passed_over, unborn, *_ = found
    said = f"record {record_id} of {time_text(occurred_at)}"
    if passed_over:
        raise Tampered(f"{said} is in no chain, though younger ones are: it was inserted later, and backdated")
    if unborn:
        raise Tampered(f"{said} names a transaction that never was: it was inserted by hand")
    raise Tampered(f"{said} is not sealed, though it is older than {LATE.seconds // 60} minutes")
