import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from accounts.models import AuditRecord, KnownTask
from config.celery import SCHEDULE
from config.management.commands import setup_schedules

pytestmark = pytest.mark.django_db

FIRST = SCHEDULE[0].task
CLOCKS = [every.task for every in SCHEDULE if every.clock]
OTHER = "escrow.tasks.check_recent_books"  # every 600 seconds


def install():
    call_command("setup_schedules", verbosity=0)


def rows():
    return [list(model.objects.order_by("pk").values()) for model in (PeriodicTask, IntervalSchedule, PeriodicTasks)]


def interval(every, period="seconds"):
    return IntervalSchedule.objects.get_or_create(every=every, period=period)[0]


def unguarded(statement, *values):
    """Write what stood in the table before it was guarded."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")


class TestSetupSchedules:
    def test_schedules_every_task_of_the_table_on_its_queue(self):
        install()

        units = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
        found = {
            (row.interval.every * units[row.interval.period], row.task, row.queue)
            for row in PeriodicTask.objects.filter(enabled=True).select_related("interval")
        }
        assert found == {(every.seconds, every.task, every.queue) for every in SCHEDULE}
        assert PeriodicTask.objects.count() == len(SCHEDULE)

    def test_a_second_run_changes_nothing(self):
        install()
        before = rows()

        install()

        assert rows() == before

    def test_a_second_run_leaves_what_was_edited_in_the_admin(self):
        install()
        PeriodicTask.objects.filter(task=OTHER).update(interval=interval(77), enabled=False)
        PeriodicTask.objects.filter(task=FIRST).update(interval=interval(60))

        install()

        edited = PeriodicTask.objects.get(task=OTHER)
        assert (edited.interval.every, edited.enabled) == (77, False)
        assert PeriodicTask.objects.get(task=FIRST).interval.every == 60
        assert PeriodicTask.objects.count() == len(SCHEDULE)

    def test_repairs_what_stood_there_before_the_guard(self):
        install()
        nightly = CrontabSchedule.objects.create(hour="4")
        unguarded(
            "UPDATE django_celery_beat_periodictask SET interval_id = %s, enabled = false, one_off = true,"
            " args = '[1]', kwargs = '{\"a\": 1}', start_time = now(), expires = now(), expire_seconds = 1,"
            " queue = 'nowhere', crontab_id = %s WHERE name = %s",
            *(interval(2, "hours").pk, nightly.pk, FIRST),
        )

        install()

        row = PeriodicTask.objects.get(name=FIRST)
        assert (row.interval.every, row.interval.period, row.enabled, row.one_off) == (1, "seconds", True, False)
        assert (row.args, row.kwargs, row.start_time, row.expires, row.queue) == ("[]", "{}", None, None, "deadlines")
        assert (row.expire_seconds, row.crontab_id) == (None, None)
        assert AuditRecord.objects.filter(action="command.setup_schedules").latest("id").facts["repaired"] == 1

    def test_removes_every_row_that_the_table_does_not_name(self):
        install()
        second = interval(1)
        for name, task in (("gone.from.the.table", "gone.from.the.table"), ("an operator's own", FIRST)):
            unguarded(
                "INSERT INTO django_celery_beat_periodictask (name, task, interval_id, args, kwargs, headers, one_off,"
                " enabled, total_run_count, date_changed, description)"
                " VALUES (%s, %s, %s, '[]', '{}', '{}', false, true, 0, now(), '')",
                *(name, task, second.pk),
            )
        unguarded("UPDATE django_celery_beat_periodictask SET task = 'os.system' WHERE name = %s", OTHER)

        install()

        assert {(row.name, row.task) for row in PeriodicTask.objects.all()} == {(e.task, e.task) for e in SCHEDULE}
        told = AuditRecord.objects.filter(action="command.setup_schedules").latest("id").facts["removed"]
        assert told == ["an operator's own", OTHER, "gone.from.the.table"]

    def test_follows_a_task_to_its_new_queue(self, monkeypatch):
        install()
        moved = [every._replace(queue="webhooks") if every.task == OTHER else every for every in SCHEDULE]
        monkeypatch.setattr(setup_schedules, "SCHEDULE", moved)

        install()

        assert PeriodicTask.objects.get(task=OTHER).queue == "webhooks"

    @pytest.mark.django_db(transaction=True)
    def test_several_hosts_at_once_do_it_once(self, race):
        assert race(*[install] * 4) == [None] * 4

        assert PeriodicTask.objects.count() == len(SCHEDULE)


class TestGuard:
    """Whatever comes by SQL, as the application's own role."""

    @pytest.fixture(autouse=True)
    def installed(self):
        install()

    def refused(self, act):
        with pytest.raises(IntegrityError, match="schedule:"), transaction.atomic():
            act()

    def update(self, task, /, **changed):
        self.refused(lambda: PeriodicTask.objects.filter(name=task).update(**changed))

    def test_knows_the_clocks_of_the_table(self):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT name, accounts_clock_queue(name) FROM unnest(%s::text[]) AS name", [[e.task for e in SCHEDULE]]
            )
            found = dict(cursor.fetchall())

        assert found == {every.task: every.queue if every.clock else None for every in SCHEDULE}
        assert len(CLOCKS) >= 8
        assert "escrow.tasks.scan_deposits" in CLOCKS  # switched off, it would stop every clock as an outage does

    @pytest.mark.parametrize("task", CLOCKS)
    def test_lets_nobody_switch_off_a_clock(self, task):
        row = PeriodicTask.objects.get(name=task)

        self.update(task, enabled=False)
        self.update(task, interval=interval(61))
        self.update(task, interval=interval(2, "minutes"))
        self.update(task, one_off=True)
        self.update(task, expires=timezone.now())
        self.update(task, start_time=timezone.now())
        self.update(task, queue="nowhere")
        self.update(task, queue=None)
        self.update(task, expire_seconds=1)
        self.refused(row.delete)
        self.refused(PeriodicTask.objects.filter(name=task).delete)
        self.refused(row.interval.delete)
        KnownTask.objects.filter(task=task).update(slowest_seconds=10**6, queue="nowhere")
        self.update(task, interval=interval(61))
        self.update(task, queue="nowhere")

        row.refresh_from_db()
        assert row.enabled

    @pytest.mark.parametrize(
        "changed",
        [
            {"task": "os.system"},
            {"task": FIRST},
            {"name": "another name"},
            {"args": "[1]"},
            {"kwargs": '{"a": 1}'},
            {"headers": '{"a": "b"}'},
            {"exchange": "x"},
            {"routing_key": "x"},
            {"priority": 1},
            {"queue": "treasury"},
            {"interval": None},
            {"one_off": True},
            {"expire_seconds": 29},
        ],
        ids=str,
    )
    def test_lets_a_task_be_nothing_else(self, changed):
        self.update(OTHER, **changed)

    @pytest.mark.parametrize(
        ("every", "period"), [(0, "seconds"), (-1, "seconds"), (6_001, "seconds"), (2, "hours"), (5, "microseconds")]
    )
    def test_bounds_the_interval(self, every, period):
        self.update(OTHER, interval=interval(every, period))

        PeriodicTask.objects.filter(name=OTHER).update(interval=interval(100, "minutes"))

    def test_lets_an_interval_be_shared_and_never_change(self):
        self.refused(lambda: IntervalSchedule.objects.update(every=500))

    def test_takes_no_other_kind_of_schedule(self):
        nightly = CrontabSchedule.objects.create(hour="4")

        self.update(OTHER, crontab=nightly)
        self.update(OTHER, crontab=nightly, interval=None)

    def test_takes_no_task_that_the_code_does_not_name(self):
        second = interval(1)
        for name, task in (("evil", "os.system"), ("twice", OTHER), ("celery.backend_cleanup",) * 2):
            self.refused(
                lambda name=name, task=task: PeriodicTask.objects.create(name=name, task=task, interval=second)
            )

    def test_is_not_emptied(self):
        def empty():
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                cursor.execute("TRUNCATE django_celery_beat_periodictask CASCADE")

        self.refused(empty)

    def test_lets_operators_do_what_is_theirs(self):
        PeriodicTask.objects.filter(name=OTHER).update(enabled=False, interval=interval(5))
        PeriodicTask.objects.filter(name=FIRST).update(interval=interval(60))
        PeriodicTask.objects.filter(name=FIRST).update(last_run_at=timezone.now(), total_run_count=5)
        PeriodicTask.objects.get(name=OTHER).delete()
