"""
Sweeps: how everything that comes due is found and done, be it a job, a case or a withdrawal.

The row is the queue. Each item is one transaction, which takes the next due row that nobody is at work on: so several
workers share what is due, and one that dies leaves its row to the others. One that raises waits, and stops nobody.
"""

import logging
import mmap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from celery.signals import worker_shutting_down
from django.db import connection, transaction

from accounts import alerts

log = logging.getLogger(__name__)

# One bell rings each second: a sweep with more to do leaves the rest to the next, so that it starves no other task.
SECONDS = 1.0
# After so many failures in a row somebody has to look at it.
STUCK_AFTER = 5
ALERT = "deadline_stuck"
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """
    The rows of a table that come due, and what is done with one.

    `act` takes the id of a row that is locked by its transaction, and answers None where there was nothing to do.
    `failures` and `retry_at` are the columns of what raised; whatever is done to the row resets them.
    """

    noun: str
    table: str
    act: Callable[[UUID], object]
    due: str = "due_at"
    where: str = "true"
    failures: str = "due_failures"
    retry_at: str = "due_retry_at"


def run(sweep: Sweep, *, limit: int) -> int:
    """
    Do what is due, the oldest first; answer how many were done.

    Ends after a second, or where the worker is told to end, and leaves the rest to the next bell.
    """
    clear_alerts(sweep)
    end, done = time.monotonic() + SECONDS, 0
    reached, idle = BEFORE_ALL, list[UUID]()
    for _ in range(limit):
        if is_ending() or time.monotonic() > end:
            break
        claimed: UUID | None = None
        try:
            with transaction.atomic():
                row = claim(sweep, reached, idle)
                if row is None:
                    break
                claimed, reached = row
                was_done = sweep.act(claimed) is not None
        except Exception:  # one that raises must not stop the others
            if claimed is None:
                raise
            log.exception("what is due of %s %s could not be done", sweep.noun, claimed)
            postpone(sweep, claimed)
            was_done = False
        if was_done:
            done += 1
        else:
            idle.append(claimed)
    return done


@transaction.atomic
def postpone(sweep: Sweep, item: UUID) -> None:
    """Try again in 2, 4, 8 … seconds, at most an hour; the fifth time in a row, call somebody."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {sweep.table} SET {sweep.failures} = {sweep.failures} + 1, {sweep.retry_at} = clock_timestamp()"
            f" + make_interval(secs => least(3600, 2 ^ least(20, {sweep.failures} + 1)))"
            f" WHERE id = %s RETURNING {sweep.failures}",
            [item],
        )
        [(failures,)] = cursor.fetchall()
    if failures >= STUCK_AFTER:
        alerts.sound(ALERT, f"{sweep.noun}:{item}", detail=f"What is due of it raised {failures} times: see the log.")


def clear_alerts(sweep: Sweep) -> None:
    """End the alerts of rows that went through, by a sweep or by somebody's own doing."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT alert.subject FROM accounts_alert alert JOIN {sweep.table} item"
            " ON item.id = split_part(alert.subject, ':', 2)::uuid"
            " WHERE alert.kind = %s AND alert.cleared_at IS NULL AND split_part(alert.subject, ':', 1) = %s"
            f" AND item.{sweep.failures} = 0",
            [ALERT, sweep.noun],
        )
        over = [subject for (subject,) in cursor.fetchall()]
    for subject in over:
        alerts.clear(ALERT, subject)


def claim(sweep: Sweep, reached: datetime = BEFORE_ALL, idle: Sequence[UUID] = ()) -> tuple[UUID, datetime] | None:
    """Lock the next row that is due, from a moment on and but for some, and that nobody is at work on."""
    with connection.cursor() as cursor:
        # The clock is read in a sub-select, once: a volatile function by itself bounds no scan of an index.
        cursor.execute(
            f"SELECT id, {sweep.due} FROM {sweep.table}"
            f" WHERE {sweep.due} <= (SELECT clock_timestamp()) AND {sweep.due} >= %s AND {sweep.where}"
            f"   AND ({sweep.retry_at} IS NULL OR {sweep.retry_at} <= (SELECT clock_timestamp()))"
            "   AND id <> ALL(%s::uuid[])"
            f" ORDER BY {sweep.due} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
            [reached, list(idle)],
        )
        row: tuple[UUID, datetime] | None = cursor.fetchone()
    return row


# --- the end of a worker ----------------------------------------------------------------------------------------------
# Shared with the children that are forked later: a worker that is told to end hears it in its first process alone.
_ending = mmap.mmap(-1, 1)


def is_ending() -> bool:
    """Tell whether this worker was told to end."""
    return _ending[0] == 1


@worker_shutting_down.connect
def _end(**_: Any) -> None:
    _ending[0] = 1
