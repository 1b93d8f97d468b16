"""
How the runs of tasks went: one row for each task, written when a run ends.

One statement a run, on its own: no transaction is around a task, and a row that cannot be written harms none. Times
are the database's, durations the worker's. Of an error only the class is kept: what it says may be a secret.
"""

import logging
import time
from typing import Any

from celery import signals, states
from django.db import connection

log = logging.getLogger(__name__)

# When the runs under way in this process began, by task id; `time.monotonic`.
_begun: dict[str, float] = {}
_ENDED = {states.SUCCESS, states.FAILURE}


def listen() -> None:
    """Note every run in this process; safe to call again."""
    signals.task_prerun.connect(begin, dispatch_uid="accounts.runs.begin")
    signals.task_postrun.connect(end, dispatch_uid="accounts.runs.end")


def begin(task_id: str = "", **_: Any) -> None:
    _begun[task_id] = time.monotonic()


def end(sender: Any = None, task_id: str = "", state: str = "", retval: Any = None, **_: Any) -> None:
    """Write down how a run went; one that is to be tried again, or was revoked, has not ended."""
    seconds = time.monotonic() - _begun.pop(task_id, time.monotonic())
    if state not in _ENDED or sender is None:
        return
    try:
        write(sender.name, seconds=seconds, error="" if state == states.SUCCESS else type(retval).__name__)
    except Exception as error:  # the database is away: the run itself was not harmed by that, nor shall it be
        log.warning("run_not_written task=%s: %s", sender.name, type(error).__name__)
        if not connection.in_atomic_block:
            connection.close()


def write(task: str, *, seconds: float, error: str = "") -> None:
    """Write down that a run ended now, after so many seconds; `error` is the class of what it raised."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_taskrun AS run
                (task, started_at, finished_at, duration_ms, runs, failures, last_error)
            VALUES (%(task)s, clock_timestamp() - make_interval(secs => %(seconds)s), clock_timestamp(),
                    least(%(seconds)s * 1000, 2147483647)::int, 1, %(failed)s, %(error)s)
            ON CONFLICT (task) DO UPDATE SET
                started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at,
                duration_ms = EXCLUDED.duration_ms, runs = run.runs + 1,
                failures = CASE WHEN EXCLUDED.failures = 0 THEN 0 ELSE run.failures + 1 END,
                last_error = CASE WHEN EXCLUDED.failures = 0 THEN run.last_error ELSE EXCLUDED.last_error END
            """,
            {"task": task[:120], "seconds": seconds, "failed": int(bool(error)), "error": error[:200]},
        )
