"""
Months of events: made before they begin, dropped when they are older than anybody was promised.

Whoever makes or drops a month has the whole table for some milliseconds. It does not wait for it for long, since every
writer that comes meanwhile queues behind, and rather comes again in an hour: months are made two ahead.
"""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import errors

from accounts import clock

log = logging.getLogger(__name__)

MONTHS_AHEAD = 2
# The last is longer than `deadlock_timeout`, after which PostgreSQL takes the table from a vacuum that has it.
LOCK_TIMEOUTS_MS = (250, 500, 500, 1_500)
PAUSE_SECONDS = 1.0
EVENTS_AT_ONCE = 10_000
DELIVERIES_AT_ONCE = 1_000
_PREFIX = "accounts_event_"


def keep(*, at: datetime | None = None) -> None:
    """Make the months to come, drop what is too old, and forget deliveries that ended long ago."""
    at = at or clock.now()
    make_months(at=at)
    drop_months(at=at)
    forget_deliveries(at=at)


def make_months(*, at: datetime) -> bool:
    """
    Make this month, the next two, and those of rows that no month took; False if others would not let go of the table.

    What is in the rest partition is copied while all go on, and only what came meanwhile while they wait.
    """
    missing = sorted((_ahead(at) | _in_rest()) - _there())
    return all(_prepare(month) for month in missing) and (not missing or _patiently(partial(_attach, months=missing)))


def drop_months(*, at: datetime) -> int:
    """
    Drop the months that are wholly older than events are kept, and answer how many.

    One with an event that is still on its way to a webhook stays.
    """
    limit = at - timedelta(seconds=settings.EVENT_RETENTION_SECONDS)
    return sum(_patiently(partial(_drop, month=month)) for month in _droppable(limit))


def forget_deliveries(*, at: datetime) -> int:
    """Delete deliveries that ended longer ago than they are kept, and answer how many."""
    limit = at - timedelta(seconds=settings.WEBHOOK_DELIVERY_RETENTION_SECONDS)
    forgotten = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                """
                DELETE FROM accounts_webhookdelivery WHERE id IN (
                    SELECT id FROM accounts_webhookdelivery
                    WHERE created_at < %(limit)s AND state <> 'pending'
                        AND coalesce(last_attempt_at, created_at) < %(limit)s
                    ORDER BY created_at LIMIT %(at_once)s FOR UPDATE SKIP LOCKED
                )
                """,
                {"limit": limit, "at_once": DELIVERIES_AT_ONCE},
            )
            if not cursor.rowcount:
                return forgotten
            forgotten += cursor.rowcount


# --- making ---------------------------------------------------------------------------------------------------------
def _prepare(month: datetime) -> bool:
    """Make the table of a month, apart, with what the rest partition has of it; what is there already is kept."""
    return _patiently(partial(_make, month=month)) and _copied(month)


def _make(cursor: CursorWrapper, month: datetime) -> None:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [_name(month)])
    if cursor.fetchone()[0]:
        return
    # Bounds and foreign key are known before it is attached, so that attaching reads nothing.
    cursor.execute(
        f"CREATE TABLE {_name(month)} (LIKE accounts_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,"
        f" CONSTRAINT {_name(month)}_bounds CHECK (recorded_at >= %s AND recorded_at < %s),"
        " FOREIGN KEY (recipient_id) REFERENCES accounts_agent DEFERRABLE INITIALLY DEFERRED)",
        _bounds(month),
    )


def _copied(month: datetime) -> bool:
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                f"INSERT INTO {_name(month)} SELECT * FROM accounts_event_rest"
                " WHERE recorded_at >= %s AND recorded_at < %s"
                f" AND id > (SELECT coalesce(max(id), 0) FROM {_name(month)}) ORDER BY id LIMIT {EVENTS_AT_ONCE}",
                _bounds(month),
            )
            if cursor.rowcount < EVENTS_AT_ONCE:
                return True


def _attach(cursor: CursorWrapper, months: Iterable[datetime]) -> None:
    # The parent's lock first: a reader that knew its partitions already would look for the moved rows in vain, and its
    # cursor would pass them by.
    cursor.execute("LOCK TABLE ONLY accounts_event IN ACCESS EXCLUSIVE MODE")
    for month in months:
        # Ids are drawn before transactions commit: a lower one may have come after a higher one was copied.
        cursor.execute(
            f"INSERT INTO {_name(month)} SELECT * FROM accounts_event_rest rest"
            " WHERE recorded_at >= %s AND recorded_at < %s"
            f" AND NOT EXISTS (SELECT FROM {_name(month)} month WHERE month.id = rest.id)",
            _bounds(month),
        )
    if _in_rest() - set(months):
        raise _Again
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    cursor.execute("TRUNCATE accounts_event_rest")
    for month in months:
        cursor.execute(
            f"ALTER TABLE accounts_event ATTACH PARTITION {_name(month)} FOR VALUES FROM (%s) TO (%s)", _bounds(month)
        )
        cursor.execute(f"ALTER TABLE {_name(month)} DROP CONSTRAINT {_name(month)}_bounds")


# --- dropping -------------------------------------------------------------------------------------------------------
def _droppable(limit: datetime) -> list[datetime]:
    old = sorted(month for month in _there() if _after(month) <= limit)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT date_trunc('month', event_recorded_at, 'UTC') FROM accounts_webhookdelivery"
            " WHERE state = 'pending' AND event_recorded_at < %s",
            [limit],
        )
        needed = {month for (month,) in cursor.fetchall()}
    return [month for month in old if month not in needed]


def _drop(cursor: CursorWrapper, month: datetime) -> None:
    cursor.execute("LOCK TABLE ONLY accounts_event IN ACCESS EXCLUSIVE MODE")
    cursor.execute(f"DROP TABLE IF EXISTS {_name(month)}")
    log.info("events_dropped month=%s", f"{month:%Y-%m}")


# --- months ---------------------------------------------------------------------------------------------------------
def _ahead(at: datetime) -> set[datetime]:
    months = [_first(at)]
    for _ in range(MONTHS_AHEAD):
        months.append(_after(months[-1]))
    return set(months)


def _in_rest() -> set[datetime]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT date_trunc('month', recorded_at, 'UTC') FROM accounts_event_rest")
        return {_first(month) for (month,) in cursor.fetchall()}


def _there() -> set[datetime]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT substr(relname, %s) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'accounts_event'::regclass AND relname <> 'accounts_event_rest'",
            [len(_PREFIX) + 1],
        )
        return {datetime.strptime(month, "%Y_%m").replace(tzinfo=UTC) for (month,) in cursor.fetchall()}


def _name(month: datetime) -> str:
    return f"{_PREFIX}{month:%Y_%m}"


def _bounds(month: datetime) -> list[datetime]:
    return [month, _after(month)]


def _first(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _after(month: datetime) -> datetime:
    return _first(month + timedelta(days=31))


# --- patience -------------------------------------------------------------------------------------------------------
class _Again(Exception):
    """Something came meanwhile."""


def _patiently(change: Callable[[CursorWrapper], None]) -> bool:
    """Change the table in one transaction that waits for nobody for long; False if that did not do."""
    for timeout_ms in LOCK_TIMEOUTS_MS:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {timeout_ms}")
                change(cursor)
            return True
        except _Again:
            break
        except OperationalError as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected):
                raise
        time.sleep(PAUSE_SECONDS)
    log.warning("events_table_busy")
    return False
