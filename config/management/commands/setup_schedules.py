from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection, transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from accounts import audit
from config.celery import SCHEDULE, Every

# Rows of ours carry it, so that one whose task is gone from the table can be told from one that an operator added.
MARK = "default schedule"
# A bell that nobody heard for so long is dropped, so that queues do not fill up: the next one says the same. Long
# enough for hosts whose clocks differ, or every bell would be late.
SHORTEST_EXPIRY_SECONDS = 30
_PERIODS = ((86_400, IntervalSchedule.DAYS), (3_600, IntervalSchedule.HOURS), (60, IntervalSchedule.MINUTES))


class Command(BaseCommand):
    help = (
        "Make the beat schedule of config/celery.py; intervals and switches edited in the admin stay. Safe to repeat."
    )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:  # several hosts may be set up at once
            cursor.execute(f"LOCK TABLE {PeriodicTask._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
        made = sum(_make(every) for every in SCHEDULE)
        gone = PeriodicTask.objects.filter(description=MARK).exclude(name__in=[every.task for every in SCHEDULE])
        removed = gone.count()
        gone.delete()
        if made or removed:
            audit.command("setup_schedules", made=made, removed=removed)
        self.stdout.write(f"{len(SCHEDULE)} tasks are scheduled, {made} of them newly; {removed} were removed")


def _make(every: Every) -> bool:
    row = PeriodicTask.objects.filter(name=every.task).first()
    if row is None:
        PeriodicTask.objects.create(
            name=every.task,
            task=every.task,
            queue=every.queue,
            interval=_interval(every.seconds),
            description=MARK,
            expire_seconds=max(every.seconds, SHORTEST_EXPIRY_SECONDS),
        )
    elif row.queue != every.queue:  # where a task is heard is said by the code
        row.queue = every.queue
        row.save(update_fields=["queue", "date_changed"])
    return row is None


def _interval(seconds: int) -> IntervalSchedule:
    length, period = next((unit for unit in _PERIODS if seconds % unit[0] == 0), (1, IntervalSchedule.SECONDS))
    interval, _ = IntervalSchedule.objects.get_or_create(every=seconds // length, period=period)
    return interval
