import pytest
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from config.celery import SCHEDULE
from config.management.commands import setup_schedules

pytestmark = pytest.mark.django_db

FIRST = SCHEDULE[0].task


def install():
    call_command("setup_schedules", verbosity=0)


def rows():
    return [list(model.objects.order_by("pk").values()) for model in (PeriodicTask, IntervalSchedule, PeriodicTasks)]


class TestSetupSchedules:
    def test_schedules_every_task_of_the_table_on_its_queue(self):
        install()

        units = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
        found = {
            (row.interval.every * units[row.interval.period], row.task, row.queue)
            for row in PeriodicTask.objects.filter(enabled=True).select_related("interval")
        }
        assert found == set(SCHEDULE)
        assert PeriodicTask.objects.count() == len(SCHEDULE)

    def test_lets_a_bell_that_nobody_heard_die_away(self):
        install()

        expiries = dict(PeriodicTask.objects.values_list("task", "expire_seconds"))
        assert expiries[FIRST] == 30
        assert expiries["escrow.tasks.check_books"] == 86_400

    def test_a_second_run_changes_nothing(self):
        install()
        before = rows()

        install()

        assert rows() == before

    def test_a_second_run_leaves_what_was_edited_in_the_admin(self):
        install()
        slower, _ = IntervalSchedule.objects.get_or_create(every=77, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.filter(task=FIRST).update(interval=slower, enabled=False, expire_seconds=7)

        install()

        edited = PeriodicTask.objects.get(task=FIRST)
        assert (edited.interval, edited.enabled, edited.expire_seconds) == (slower, False, 7)
        assert PeriodicTask.objects.count() == len(SCHEDULE)

    def test_removes_a_default_that_left_the_table_but_not_what_an_operator_added(self):
        install()
        known = PeriodicTask.objects.get(task=FIRST)
        for name, description in (("gone.from.the.table", known.description), ("an operator's own", "")):
            PeriodicTask.objects.create(name=name, task=name, interval=known.interval, description=description)

        install()

        names = set(PeriodicTask.objects.values_list("name", flat=True))
        assert names == {every.task for every in SCHEDULE} | {"an operator's own"}

    def test_follows_a_task_to_its_new_queue(self, monkeypatch):
        install()
        moved = [SCHEDULE[0]._replace(queue="webhooks"), *SCHEDULE[1:]]
        monkeypatch.setattr(setup_schedules, "SCHEDULE", moved)

        install()

        assert PeriodicTask.objects.get(task=FIRST).queue == "webhooks"

    @pytest.mark.django_db(transaction=True)
    def test_several_hosts_at_once_do_it_once(self, race):
        assert race(*[install] * 4) == [None] * 4

        assert PeriodicTask.objects.count() == len(SCHEDULE)
