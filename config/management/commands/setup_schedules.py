from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection, transaction
from django.db.models import F, Q
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from accounts import audit, schedules
from accounts.models import KnownTask
from config.celery import SCHEDULE, Every

MARK = "default schedule"
# What is nobody's to set, by its column: the same for every task. The beat drops bells that nobody hears by their
# number: a moment of expiry would be judged by each worker's own clock.
_FIXED: dict[str, Any] = {
    **{"crontab": None, "solar": None, "clocked": None, "one_off": False, "start_time": None, "expires": None},
    **{
        "expire_seconds": None,
        "args": "[]",
        "kwargs": "{}",
        "headers": "{}",
        "exchange": None,
        "routing_key": None,
        "priority": None,
    },
}


class Command(BaseCommand):
    help = (
        "Make the beat schedule of config/celery.py, and let it be the whole schedule. Intervals within bounds and"
        " switches, as edited in the admin, stay. Safe to repeat."
    )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:  # several hosts may be set up at once
            cursor.execute(f"LOCK TABLE {PeriodicTask._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
        tasks = [every.task for every in SCHEDULE]
        _know(tasks)
        gone = PeriodicTask.objects.exclude(Q(name__in=tasks) & Q(name=F("task")))
        removed = sorted(gone.values_list("name", flat=True))
        gone.delete()
        done = [_make(every) for every in SCHEDULE]
        made, repaired = done.count("made"), done.count("repaired")
        if made or repaired or removed:
            PeriodicTasks.update_changed()
            audit.command("setup_schedules", made=made, repaired=repaired, removed=removed)
        self.stdout.write(
            f"{len(SCHEDULE)} tasks are scheduled, {made} of them newly, {repaired} repaired;"
            f" {len(removed)} were removed{': ' if removed else ''}{', '.join(removed)}"
        )


def _know(tasks: list[str]) -> None:
    KnownTask.objects.exclude(task__in=tasks).delete()
    KnownTask.objects.bulk_create(
        [KnownTask(task=every.task, queue=every.queue, slowest_seconds=every.slowest_seconds) for every in SCHEDULE],
        update_conflicts=True,
        unique_fields=["task"],
        update_fields=["queue", "slowest_seconds"],
    )


def _make(every: Every) -> str:
    row = PeriodicTask.objects.select_related("interval").filter(name=every.task).first()
    if row is None:
        PeriodicTask.objects.create(
            name=every.task,
            task=every.task,
            queue=every.queue,
            interval=schedules.interval_of(every.seconds),
            description=MARK,
        )
        return "made"
    wanted = {**_FIXED, "queue": every.queue}  # where a task is heard is said by the code
    if not 1 <= schedules.seconds_of(row.interval) <= every.slowest_seconds:
        wanted["interval"] = schedules.interval_of(every.seconds)
    if every.clock:
        wanted["enabled"] = True
    wrong = {name: value for name, value in wanted.items() if getattr(row, name) != value}
    for name, value in wrong.items():
        setattr(row, name, value)
    if wrong:
        row.save(update_fields=[*wrong, "date_changed"])
    return "repaired" if wrong else ""
