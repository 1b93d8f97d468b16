from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from config.celery import SCHEDULE, Every

# Rows of ours carry it, so that one whose task is gone from the table can be told from one that an operator added.
MARK = "default schedule"
# A bell that nobody heard is not worth hearing much later: the next one rings anyway, and the queue must not fill up.
SHORTEST_EXPIRY_SECONDS = 5
LONGEST_EXPIRY_SECONDS = 3_600


class Command(BaseCommand):
    help = (
        "Make the beat schedule of config/celery.py; intervals and switches edited in the admin stay. Safe to repeat."
    )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        made = sum(_make(every) for every in SCHEDULE)
        names = [every.task for every in SCHEDULE]
        gone, _ = PeriodicTask.objects.filter(description=MARK).exclude(name__in=names).delete()
        self.stdout.write(f"{len(SCHEDULE)} tasks are scheduled, {made} of them newly; {gone} were removed")


def _make(every: Every) -> bool:
    if PeriodicTask.objects.filter(name=every.task).exists():
        return False
    interval, _ = IntervalSchedule.objects.get_or_create(every=every.seconds, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(
        name=every.task,
        task=every.task,
        queue=every.queue,
        interval=interval,
        description=MARK,
        expire_seconds=min(max(every.seconds, SHORTEST_EXPIRY_SECONDS), LONGEST_EXPIRY_SECONDS),
    )
    return True
