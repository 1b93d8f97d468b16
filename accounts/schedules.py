"""
How often each periodic task rings: rows of django-celery-beat, of which people set the interval and the switch alone.

The database refuses everything else, and switching off the clocks of jobs, disputes and payouts.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection, transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from accounts import audit
from accounts.errors import DomainError, Invalid
from accounts.models import KnownTask, User

CLOCK_SECONDS = 60
_PERIODS = ((86_400, IntervalSchedule.DAYS), (3_600, IntervalSchedule.HOURS), (60, IntervalSchedule.MINUTES))


class ScheduleChanged(DomainError):
    status = 409
    code = "schedule_changed"
    title = "Somebody else changed this schedule"


class Bounds(NamedTuple):
    """What may be set: the longest interval, and whether the task is a clock, which is never switched off."""

    slowest_seconds: int
    is_clock: bool


class Setting(NamedTuple):
    seconds: int
    enabled: bool


@transaction.atomic
def change(task: str, *, seconds: int, enabled: bool, expected: Setting, by: User, reason: str = "") -> PeriodicTask:
    """
    Let a task ring every so many seconds, or not at all.

    `expected` is what the person saw before.

    :raises Invalid: if the interval is out of bounds, or a clock is to be switched off
    :raises ScheduleChanged: if it is not as expected any more
    """
    row = PeriodicTask.objects.select_for_update(of=["self"]).select_related("interval").get(name=task)
    if setting_of(row) != expected:
        raise ScheduleChanged("Somebody else changed this schedule just now. Look at it again.")
    bounds = bounds_of(task)
    if not 1 <= seconds <= bounds.slowest_seconds:
        raise Invalid(f"This task rings every 1 to {bounds.slowest_seconds} seconds.")
    if bounds.is_clock and not enabled:
        raise Invalid("The clocks of jobs, disputes and payouts are never switched off.")
    row.interval, row.enabled = interval_of(seconds), enabled
    row.save(update_fields=["interval", "enabled", "date_changed"])
    audit.record(
        "schedule.changed",
        user=by,
        subject=f"schedule:{task}",
        before=expected._asdict(),
        after={"seconds": seconds, "enabled": enabled},
        facts={"task": task, "before": expected._asdict(), "after": {"seconds": seconds, "enabled": enabled}},
        reason=reason,
    )
    return row


def setting_of(row: PeriodicTask) -> Setting:
    return Setting(int(seconds_of(row.interval)), row.enabled)


def bounds_of(task: str) -> Bounds:
    """
    Read within which bounds a task may be set.

    :raises Invalid: if the code does not know it
    """
    known = KnownTask.objects.filter(task=task).first()
    if known is None:
        raise Invalid("No such task is known: run `setup_schedules`.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT accounts_clock_queue(%s) IS NOT NULL", [task])
        [(is_clock,)] = cursor.fetchall()
    return Bounds(min(known.slowest_seconds, CLOCK_SECONDS) if is_clock else known.slowest_seconds, is_clock)


def seconds_of(interval: IntervalSchedule | None) -> float:
    """Reckon an interval in seconds; 0 where there is none."""
    return float(interval.schedule.run_every.total_seconds()) if interval else 0


def interval_of(seconds: int) -> IntervalSchedule:
    """Find the row of an interval, or make it."""
    length, period = next((unit for unit in _PERIODS if seconds % unit[0] == 0), (1, IntervalSchedule.SECONDS))
    interval, _ = IntervalSchedule.objects.get_or_create(every=seconds // length, period=period)
    return interval
