"""How tasks ran, what waits for them, and what is said when something is wrong."""

from datetime import timedelta

import pytest
from celery import shared_task
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import PeriodicTask

from accounts import clock, clockwork, runs, schedules, staff
from accounts.errors import Invalid
from accounts.models import Alert, AuditRecord, KnownTask, TaskRun

pytestmark = pytest.mark.django_db
TASK, CLOCK = "accounts.tasks.forget_answers", "accounts.tasks.finish_leaving"


class Broken(Exception):
    pass


@shared_task(name="bells.goes_well")
def goes_well():
    return clock.now()


@shared_task(name="bells.goes_wrong")
def goes_wrong(secret):
    raise Broken(secret)


@shared_task(name="bells.tries_again", bind=True, max_retries=1)
def tries_again(self):
    raise self.retry(countdown=0)


@pytest.fixture
def rows(db):
    """Two tasks that ring, as `setup_schedules` makes them."""
    for task, seconds, queue in ((TASK, 3_600, "default"), (CLOCK, 10, "deadlines")):
        KnownTask.objects.create(task=task, queue=queue, slowest_seconds=36_000)
        PeriodicTask.objects.create(name=task, task=task, queue=queue, interval=schedules.interval_of(seconds))


@pytest.fixture
def sweeps(monkeypatch):
    known = {}
    monkeypatch.setattr(clockwork, "_sweeps", known)
    return known


def ran(task, *, ago, failures=0):
    at = clock.now() - ago
    TaskRun.objects.update_or_create(
        task=task,
        defaults={"started_at": at, "finished_at": at, "duration_ms": 5, "failures": failures, "last_error": "Broken"},
    )
    PeriodicTask.objects.update(date_changed=at - timedelta(days=9))


def sounding():
    return set(Alert.objects.filter(cleared_at=None).values_list("kind", "subject"))


class TestRuns:
    def test_are_written_when_they_end(self):
        before = clock.now()
        goes_well.apply()
        goes_well.apply()

        row = TaskRun.objects.get()
        assert (row.task, row.runs, row.failures, row.last_error) == ("bells.goes_well", 2, 0, "")
        assert before < row.started_at <= row.finished_at
        assert 0 <= row.duration_ms < 60_000

    def test_that_fail_are_counted_in_a_row_and_keep_the_class_alone(self):
        for _ in range(3):
            goes_wrong.apply(["hunter2"])

        row = TaskRun.objects.get()
        assert (row.runs, row.failures, row.last_error) == (3, 3, "Broken")
        assert "hunter2" not in str(TaskRun.objects.values())
        runs.write(row.task, seconds=1)
        row.refresh_from_db()
        assert (row.runs, row.failures, row.duration_ms) == (4, 0, 1_000)

    def test_that_are_tried_again_have_not_ended(self):
        runs.begin("1")
        runs.end(tries_again, "1", "RETRY", None)

        assert not TaskRun.objects.exists()
        assert not runs._begun

    @pytest.mark.django_db(transaction=True)
    def test_stand_in_no_transaction_and_take_one_statement(self):
        with CaptureQueriesContext(connection) as asked:
            goes_well.apply()

        assert len(asked) == 2  # its own, and ours
        assert not connection.in_atomic_block

    @pytest.mark.django_db(transaction=True)
    def test_go_on_where_the_database_is_away(self, monkeypatch):
        def away(*_, **__):
            raise OperationalError("away")

        monkeypatch.setattr(runs, "write", away)

        assert goes_well.apply().successful()

    @pytest.mark.django_db(transaction=True)
    def test_at_once_are_all_counted(self, race):
        def write():
            runs.write("a.task", seconds=0.01, error="Broken")

        assert race(*[write] * 8) == [None] * 8

        row = TaskRun.objects.get()
        assert (row.runs, row.failures) == (8, 8)


class TestLook:
    def test_says_nothing_where_all_is_well(self, rows, sweeps):
        ran(TASK, ago=timedelta(hours=4))
        ran(CLOCK, ago=timedelta(seconds=50))
        clockwork.register(CLOCK, due=lambda: (3, clock.now() - timedelta(seconds=50)))

        clocks = clockwork.look()

        assert sounding() == set()
        assert [(one.task, one.seconds, one.backlog) for one in clocks] == [(CLOCK, 10, 3), (TASK, 3_600, None)]

    def test_sounds_for_one_that_is_late_until_it_runs(self, rows, sweeps):
        ran(TASK, ago=timedelta(hours=5, minutes=1))
        ran(CLOCK, ago=timedelta(seconds=70))

        clockwork.look()
        assert sounding() == {("task_late", TASK), ("task_late", CLOCK)}
        ran(CLOCK, ago=timedelta(0))
        clockwork.look()

        assert sounding() == {("task_late", TASK)}

    def test_leaves_alone_what_is_off_or_was_just_switched_on(self, rows, sweeps):
        ran(TASK, ago=timedelta(days=4))
        ran(CLOCK, ago=timedelta(0))
        PeriodicTask.objects.filter(name=TASK).update(enabled=False)
        clockwork.look()
        assert sounding() == set()

        PeriodicTask.objects.filter(name=TASK).update(enabled=True, date_changed=clock.now())
        clockwork.look()

        assert sounding() == set()

    def test_sounds_for_one_that_never_ran(self, rows, sweeps):
        PeriodicTask.objects.filter(name=CLOCK).update(date_changed=clock.now() - timedelta(seconds=70))

        clockwork.look()

        assert sounding() == {("task_late", CLOCK)}
        assert Alert.objects.get().detail == "It rings every 10 s and never ran."

    def test_sounds_for_one_that_failed_five_times(self, rows, sweeps):
        ran(TASK, ago=timedelta(0))
        ran(CLOCK, ago=timedelta(0), failures=4)
        clockwork.look()
        assert sounding() == set()

        ran(CLOCK, ago=timedelta(0), failures=5)
        clockwork.look()
        assert sounding() == {("task_failing", CLOCK)}

        ran(CLOCK, ago=timedelta(0))
        clockwork.look()
        assert sounding() == set()

    def test_sounds_for_what_was_due_for_long_by_the_bound_of_its_task(self, rows, sweeps):
        ran(CLOCK, ago=timedelta(0))
        ran(TASK, ago=timedelta(0))
        due = {"since": clock.now() - timedelta(seconds=61)}
        clockwork.register(CLOCK, due=lambda: (7, due["since"]))
        clockwork.register(TASK, due=lambda: (7, due["since"]), oldest_seconds=600)

        clockwork.look()
        assert sounding() == {("backlog_old", CLOCK)}

        due["since"] = None
        clockwork.look()
        assert sounding() == set()

    def test_goes_on_where_one_sweep_cannot_say_what_is_due(self, rows, sweeps):
        def broken():
            with connection.cursor() as cursor:
                cursor.execute("SELECT * FROM nothing_of_that_name")

        clockwork.register(CLOCK, due=broken)
        ran(TASK, ago=timedelta(days=4))

        clockwork.look()

        assert ("task_late", TASK) in sounding()

    def test_counts_up_to_a_bound(self, rows, monkeypatch):
        monkeypatch.setattr(clockwork, "MOST_COUNTED", 1)

        assert clockwork.counted(KnownTask.objects.all(), "task") == (1, CLOCK)
        assert clockwork.counted(KnownTask.objects.none(), "task") == (0, None)


class TestChange:
    @pytest.fixture
    def olga(self, db):
        staff.prepare_groups()
        return staff.prepare_account("olga", groups=["Operators"])

    def test_sets_the_interval_and_the_switch_and_says_who(self, rows, olga):
        before = schedules.Setting(3_600, True)

        schedules.change(TASK, seconds=90, enabled=False, expected=before, by=olga, reason="a test")

        assert schedules.setting_of(PeriodicTask.objects.get(name=TASK)) == (90, False)
        record = AuditRecord.objects.get(action="schedule.changed")
        assert (record.user, record.subject, record.reason) == (olga, f"schedule:{TASK}", "a test")
        assert record.facts["before"] == {"seconds": 3_600, "enabled": True}
        assert record.facts["after"] == {"seconds": 90, "enabled": False}

    @pytest.mark.parametrize(
        ("task", "seconds", "enabled"),
        [(TASK, 0, True), (TASK, -5, True), (TASK, 36_001, True), (CLOCK, 61, True), (CLOCK, 10, False)],
    )
    def test_refuses_what_is_out_of_bounds(self, rows, olga, task, seconds, enabled):
        before = schedules.setting_of(PeriodicTask.objects.get(name=task))

        with pytest.raises(Invalid), transaction.atomic():
            schedules.change(task, seconds=seconds, enabled=enabled, expected=before, by=olga)

        assert schedules.setting_of(PeriodicTask.objects.get(name=task)) == before
        assert not AuditRecord.objects.filter(action="schedule.changed").exists()

    def test_refuses_who_saw_another_setting(self, rows, olga):
        with pytest.raises(schedules.ScheduleChanged):
            schedules.change(TASK, seconds=90, enabled=True, expected=schedules.Setting(60, True), by=olga)

    def test_keeps_its_bounds_within_those_of_the_database(self, rows):
        call_command("setup_schedules", verbosity=0)

        for task in PeriodicTask.objects.values_list("name", flat=True):
            bounds = schedules.bounds_of(task)
            slowest = PeriodicTask.objects.filter(name=task)
            slowest.update(interval=schedules.interval_of(bounds.slowest_seconds), enabled=bounds.is_clock)
