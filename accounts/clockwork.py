"""
The clockwork: what rings, when it last ran, what waits for it, and what is wrong with it.

The owner of a sweep registers how to count what is due for it. A beat that is dead rings no alarm about itself: that
its heart is silent is seen by /metrics and by `marketplace.incidents`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import QuerySet
from django_celery_beat.models import PeriodicTask

from accounts import alerts, clock, schedules, sweeps
from accounts.models import TaskRun

log = logging.getLogger(__name__)

LATE, FAILING, BACKLOG = "task_late", "task_failing", "backlog_old"
LATE_AFTER_SECONDS, LATE_AFTER_INTERVALS = 60, 5
FAILURES_IN_A_ROW = 5
OLDEST_DUE_SECONDS = 60
# Counting stops here: whoever has so many does not ask how many more.
MOST_COUNTED = 10_000

Due = Callable[[], tuple[int, datetime | None]]


class Sweep(NamedTuple):
    """How to count what is due for a task, and how long the oldest of it may have been due."""

    due: Due
    oldest_seconds: int


class Clock(NamedTuple):
    """A periodic task, as people look at it."""

    task: str
    queue: str
    seconds: int  # how often it rings
    enabled: bool
    changed_at: datetime
    last_run_at: datetime | None
    duration_ms: int | None
    runs: int
    failures: int  # in a row
    last_error: str
    counts: bool  # what is due for it is known
    backlog: int | None
    oldest_due_at: datetime | None
    oldest_seconds: int
    read_at: datetime

    @property
    def late_after(self) -> timedelta:
        return timedelta(seconds=max(LATE_AFTER_SECONDS, LATE_AFTER_INTERVALS * self.seconds))

    @property
    def run_age(self) -> timedelta:
        """How long it has not run; one that never ran counts from its last edit."""
        return self.read_at - max(self.last_run_at or self.changed_at, self.changed_at)

    @property
    def is_late(self) -> bool:
        return self.enabled and self.run_age > self.late_after

    @property
    def is_failing(self) -> bool:
        return self.failures >= FAILURES_IN_A_ROW

    @property
    def oldest_due_age(self) -> timedelta:
        return max(self.read_at - self.oldest_due_at, timedelta(0)) if self.oldest_due_at else timedelta(0)

    @property
    def has_old_backlog(self) -> bool:
        return self.oldest_due_age > timedelta(seconds=self.oldest_seconds)

    @property
    def words(self) -> list[str]:
        """What is wrong with it, in as few words as a table has room for."""
        return [_WORDS[kind] for kind in self.wrong]

    @property
    def wrong(self) -> dict[str, str]:
        """What is wrong with it: the kind of the alert, and a sentence."""
        found = {}
        if self.is_late:
            ran = f"last ran {self.last_run_at:%Y-%m-%d %H:%M:%S} UTC" if self.last_run_at else "never ran"
            found[LATE] = f"It rings every {self.seconds} s and {ran}."
        if self.is_failing:
            found[FAILING] = f"It failed {self.failures} times in a row: {self.last_error}."
        if self.has_old_backlog:
            found[BACKLOG] = f"{self.backlog} are due, the oldest since {self.oldest_due_at:%Y-%m-%d %H:%M:%S} UTC."
        return found


_WORDS = {LATE: "late", FAILING: "failing", BACKLOG: "leaves things lying"}
_sweeps: dict[str, Sweep] = {}


def register(task: str, *, due: Due, oldest_seconds: int = OLDEST_DUE_SECONDS) -> None:
    """
    Say how to count what is due for a task: how many items, and since when the oldest is.

    Called in `AppConfig.ready()`. `due` reads by an index and counts no whole table: `counted` helps. An alert sounds
    when the oldest was due for longer than `oldest_seconds`.
    """
    _sweeps[task] = Sweep(due, oldest_seconds)


def registered() -> list[str]:
    return sorted(_sweeps)


def counted(rows: QuerySet[Any], field: str) -> tuple[int, datetime | None]:
    """Count due rows up to a bound, and find the oldest by the column that says since when it is due."""
    sooner = rows.order_by(field).values_list(field, flat=True)
    return sooner[:MOST_COUNTED].count(), sooner.first()


def of_sweeps(*them: sweeps.Sweep) -> Due:
    """Count what is due for these sweeps together, as they themselves find it; what raised and waits counts too."""
    each = " UNION ALL ".join(
        f"(SELECT {one.due} AS due FROM {one.table} WHERE {one.due} <= (SELECT clock_timestamp()) AND {one.where}"
        f" ORDER BY {one.due} LIMIT {MOST_COUNTED})"
        for one in them
    )

    def due() -> tuple[int, datetime | None]:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT least(count(*), {MOST_COUNTED}), min(due) FROM ({each}) AS item")
            row: tuple[int, datetime | None] = cursor.fetchone()
        return row

    return due


def read() -> list[Clock]:
    """Read the whole clockwork, the most often first; what is due is asked of each sweep."""
    at = clock.now()
    runs = TaskRun.objects.in_bulk()
    rows = PeriodicTask.objects.select_related("interval").order_by("task")
    return sorted((_clock(row, runs.get(row.task), at) for row in rows), key=lambda one: (one.seconds, one.task))


def look() -> list[Clock]:
    """Sound the alerts about tasks that are late, fail, or leave things lying, and end those that are over."""
    clocks = read()
    for kind in (LATE, FAILING, BACKLOG):
        wrong = {one.task: one.wrong[kind] for one in clocks if kind in one.wrong}
        for task, detail in wrong.items():
            alerts.sound(kind, task, detail=detail)
        alerts.clear_others(kind, still=wrong)
    return clocks


def due_of(task: str) -> tuple[int, datetime | None] | None:
    """Ask a sweep what is due for it; None where nobody says, or it cannot be told now."""
    if task not in _sweeps:
        return None
    try:
        with transaction.atomic():
            return _sweeps[task].due()
    except Exception:  # what one sweep cannot say hides nothing of the others
        log.exception("due_not_counted task=%s", task)
        return None


def _clock(row: PeriodicTask, run: TaskRun | None, at: datetime) -> Clock:
    due = due_of(row.task)
    return Clock(
        task=row.task,
        queue=row.queue or "",
        seconds=schedules.setting_of(row).seconds,
        enabled=row.enabled,
        changed_at=row.date_changed,
        last_run_at=run.finished_at if run else None,
        duration_ms=run.duration_ms if run else None,
        runs=run.runs if run else 0,
        failures=run.failures if run else 0,
        last_error=run.last_error if run else "",
        counts=row.task in _sweeps,
        backlog=due[0] if due else None,
        oldest_due_at=due[1] if due else None,
        oldest_seconds=_sweeps[row.task].oldest_seconds if row.task in _sweeps else OLDEST_DUE_SECONDS,
        read_at=at,
    )
