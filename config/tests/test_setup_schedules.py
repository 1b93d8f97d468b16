import pytest
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from config.celery import QUEUES, SCHEDULE, app

pytestmark = pytest.mark.django_db


class TestSetupSchedules:
    def test_schedules_every_task_of_the_table_on_its_queue(self) -> None:
        call_command("setup_schedules", verbosity=0)

        scheduled = set(PeriodicTask.objects.filter(enabled=True).values_list("task", "queue", "interval__every"))
        assert {(every.task, every.queue, every.seconds) for every in SCHEDULE} <= scheduled

    def test_a_second_run_leaves_what_was_edited_in_the_admin(self) -> None:
        call_command("setup_schedules", verbosity=0)
        slower, _ = IntervalSchedule.objects.get_or_create(every=77, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.filter(task=SCHEDULE[0].task).update(interval=slower, enabled=False)
        count = PeriodicTask.objects.count()

        call_command("setup_schedules", verbosity=0)

        edited = PeriodicTask.objects.get(task=SCHEDULE[0].task)
        assert (edited.interval.every, edited.enabled) == (77, False)
        assert PeriodicTask.objects.count() == count

    def test_removes_a_default_that_left_the_table_but_not_what_an_operator_added(self) -> None:
        call_command("setup_schedules", verbosity=0)
        known = PeriodicTask.objects.get(task=SCHEDULE[0].task)
        for name, description in (("gone.from.the.table", known.description), ("an operator's own", "")):
            PeriodicTask.objects.create(name=name, task=name, interval=known.interval, description=description)

        call_command("setup_schedules", verbosity=0)

        names = set(PeriodicTask.objects.values_list("name", flat=True))
        assert "an operator's own" in names
        assert "gone.from.the.table" not in names

    def test_every_scheduled_task_exists_and_its_queue_is_served(self) -> None:
        app.loader.import_default_modules()

        assert [every.task for every in SCHEDULE if every.task not in app.tasks] == []
        assert {every.queue for every in SCHEDULE} <= set(QUEUES)
