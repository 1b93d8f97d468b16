"""The beat: one rings at a time, each task once, whatever happens to it, to the database or to Redis."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from celery.beat import Scheduler
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django_celery_beat.models import PeriodicTask

from accounts import clock, schedules, staff
from accounts.models import KnownTask, TaskRun
from config import beat as beats
from config.beat import Beat
from config.celery import QUEUES, SCHEDULE, app
from marketplace import incidents
from marketplace.models import Heartbeat

pytestmark = pytest.mark.django_db(transaction=True)
EVERY_SECOND, HOURLY = "marketplace.tasks.enforce_deadlines", "accounts.tasks.forget_answers"


class Recorded(Beat):
    """Rings into a list; a bell that breaks is what Redis being away looks like."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.breaks = False
        super().__init__(app=app)

    def _ensure_connected(self) -> Any:
        return None

    def apply_async(self, entry: Any, **_: Any) -> None:
        if self.breaks:
            raise ConnectionError("no Redis")
        assert (entry.args, entry.kwargs) == ([], {})
        self.rung.append(entry.task)

    def ring(self) -> list[str]:
        """Tick until nothing is due, and say what rang."""
        begun = len(self.rung)
        while self.tick() == 0:
            pass
        return self.rung[begun:]


@pytest.fixture
def scheduled():
    call_command("setup_schedules", verbosity=0)


@pytest.fixture
def beat(scheduled, monkeypatch):
    monkeypatch.setattr(beats, "pulse", lambda beat: None)
    made = []

    def make() -> Recorded:
        made.append(Recorded())
        return made[-1]

    yield make
    for each in made:
        each.lead.give_up()


def rang(task: str, *, ago: timedelta) -> None:
    PeriodicTask.objects.filter(name=task).update(last_run_at=clock.now() - ago)


def all_rang(ago: timedelta) -> None:
    PeriodicTask.objects.update(last_run_at=clock.now() - ago)


def cut_off(name: str) -> int:
    """End the connection on which a beat holds its lock, as an administrator may, or a network."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
            " AND datname = current_database()",
            [name],
        )
        return len(cursor.fetchall())


def leaders() -> set[int]:
    """Name the processes of the beats that hold the lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND granted AND application_name LIKE 'beat %%'"
            " AND datname = current_database() AND objid = (hashtext('beat')::bigint & 4294967295)::oid"
        )
        return {int(name.removeprefix("beat ")) for (name,) in cursor.fetchall()}


class TestAway:
    def test_for_an_hour_rings_each_task_once(self, beat):
        all_rang(timedelta(hours=1, seconds=1))

        rung = Counter(beat().ring())

        due = {every.task for every in SCHEDULE if every.seconds <= 3_600}
        assert set(rung) == due
        assert {count for task, count in rung.items() if task == HOURLY} == {1}
        # what rings each second may ring a second time while this test lasts, and no more often than that
        assert rung[EVERY_SECOND] < 30
        assert not [task for task, count in rung.items() if count > 1 and task not in _often()]

    def test_of_a_host_whose_clock_was_ahead_silences_nothing(self, beat):
        all_rang(timedelta(hours=-2))

        assert set(beat().ring()) == {every.task for every in SCHEDULE}

    def test_of_the_clock_itself_set_back_silences_nothing(self, beat, monkeypatch):
        one = beat()
        all_rang(timedelta(seconds=10))
        one.ring()
        all_rang(timedelta(hours=-2))  # as they were written before somebody set the clock back
        back = beats._wall() - 7_200
        monkeypatch.setattr(beats, "_wall", lambda: back)

        assert EVERY_SECOND in one.ring()


def _often() -> set[str]:
    return {every.task for every in SCHEDULE if every.seconds <= 60}


class TestTwo:
    def test_ring_as_one(self, beat):
        first, second = beat(), beat()
        all_rang(timedelta(days=2))

        assert first.ring()
        assert second.ring() == []
        assert second.tick() == beats.ASK_SECONDS

    def test_take_over_where_the_other_stopped(self, beat):
        first, second = beat(), beat()
        all_rang(timedelta(days=2))
        rung = set(first.ring())
        first.close()

        assert HOURLY in rung
        assert HOURLY not in second.ring()
        rang(EVERY_SECOND, ago=timedelta(seconds=5))
        second._reread()
        assert EVERY_SECOND in second.ring()

    def test_lose_the_lead_with_the_connection_and_stop_at_once(self, beat):
        first, second = beat(), beat()
        all_rang(timedelta(days=2))
        first.tick()  # leads, and has most of them still to ring
        assert cut_off(f"beat {os.getpid()}") == 1
        assert second.tick() == 0

        assert first.ring() == []
        assert not first.lead.held
        assert not first._dirty, "who does not lead writes down nothing"

    def test_cannot_write_down_what_the_other_rang(self, beat):
        first, second = beat(), beat()
        all_rang(timedelta(days=2))
        first.ring()
        first.lead.give_up()
        second.ring()
        rang(HOURLY, ago=timedelta(0))
        before = PeriodicTask.objects.get(name=HOURLY).last_run_at
        first._dirty.add(HOURLY)

        first.sync()

        assert PeriodicTask.objects.get(name=HOURLY).last_run_at == before


class TestEdits:
    def test_in_the_console_take_effect_at_once(self, beat):
        one = beat()
        all_rang(timedelta(seconds=100))
        one.ring()
        staff.prepare_groups()
        olga = staff.prepare_account("olga", groups=["Operators"])
        assert HOURLY not in one.ring()

        schedules.change(
            HOURLY, seconds=60, enabled=True, expected=schedules.Setting(3_600, True), by=olga, reason="a test"
        )

        assert HOURLY in one.ring()

    def test_by_sql_take_effect_within_seconds(self, beat):
        one = beat()
        all_rang(timedelta(seconds=100))
        one.ring()
        PeriodicTask.objects.filter(name=HOURLY).update(interval=schedules.interval_of(60))
        assert HOURLY not in one.ring()

        one._read_at -= beats.REREAD_SECONDS

        assert HOURLY in one.ring()

    def test_that_the_code_does_not_know_ring_nothing(self, beat):
        KnownTask.objects.create(task="os.system", queue="default", slowest_seconds=60)
        PeriodicTask.objects.create(
            name="os.system", task="os.system", queue="default", interval=schedules.interval_of(1)
        )
        all_rang(timedelta(days=2))

        assert "os.system" not in beat().ring()


class TestPartsAway:
    def test_redis_leaves_due_what_could_not_ring(self, beat):
        one = beat()
        all_rang(timedelta(days=2))
        one.breaks = True
        assert one.tick() == beats.ASK_SECONDS
        assert one.tick() == beats.ASK_SECONDS

        one.breaks = False

        assert set(one.ring()) == {every.task for every in SCHEDULE}

    def test_the_database_makes_it_wait_and_go_on(self, beat, monkeypatch):
        one = beat()
        all_rang(timedelta(days=2))
        one.tick()
        assert cut_off(f"beat {os.getpid()}") == 1
        port = settings.DATABASES["default"]["PORT"]
        monkeypatch.setitem(connection.settings_dict, "PORT", 1)
        connection.close()

        assert one.tick() == beats.ASK_SECONDS
        assert one.tick() == beats.ASK_SECONDS
        assert not one.lead.held

        monkeypatch.setitem(connection.settings_dict, "PORT", port)
        assert len(set(one.ring())) >= len(SCHEDULE) - 1

    def test_a_statement_that_fails_makes_it_wait_and_go_on(self, beat, monkeypatch):
        one = beat()
        all_rang(timedelta(days=2))
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE django_celery_beat_periodictask RENAME TO away")
        try:
            assert one.tick() == beats.ASK_SECONDS
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE away RENAME TO django_celery_beat_periodictask")

        assert set(one.ring()) == {every.task for every in SCHEDULE}


class TestUnheard:
    """A queue that nobody listens to: bells are dropped before they fill Redis, and no worker's clock judges them."""

    def test_bells_ring_no_more_but_for_those_that_ring_seldom(self, scheduled, monkeypatch):
        rung = []
        monkeypatch.setattr(Scheduler, "apply_async", lambda self, entry, **_: rung.append(entry.task))
        monkeypatch.setattr(Beat, "_ensure_connected", lambda self: None)
        monkeypatch.setattr(Beat, "_waiting", lambda self, queue: beats.MOST_WAITING if queue == "deadlines" else 0)
        monkeypatch.setattr(beats, "pulse", lambda beat: None)
        all_rang(timedelta(days=2))
        one = Beat(app=app)

        while one.tick() == 0:
            pass
        one.lead.give_up()

        unheard = {every.task for every in SCHEDULE if every.queue == "deadlines" and every.seconds <= 60}
        assert unheard
        assert set(rung) == {every.task for every in SCHEDULE} - unheard

    def test_bells_have_no_moment_of_expiry(self, beat):
        PeriodicTask.objects.filter(name=HOURLY).update(expire_seconds=30)

        one = beat()
        one.tick()

        assert "expires" not in one.schedule[HOURLY].options


class TestHeartbeat:
    @pytest.fixture
    def server(self):
        return redis.Redis.from_url(settings.REDIS_URL)

    def test_is_written_by_who_leads_and_ticks(self, beat, server):
        first, second = beat(), beat()
        first.tick()
        second.tick()

        beats.throb(second, server)
        assert not Heartbeat.objects.exists()
        beats.throb(first, server)
        assert set(Heartbeat.objects.values_list("part", flat=True)) == {"beat", "redis"}

    def test_is_not_written_for_a_beat_that_hangs(self, beat, server):
        one = beat()
        one.tick()
        one.ticked_at -= beats.TICKING_SECONDS + 1

        beats.throb(one, server)

        assert not Heartbeat.objects.exists()

    def test_of_redis_needs_an_answer(self, beat):
        one = beat()
        one.tick()

        beats.throb(one, redis.Redis(host="127.0.0.1", port=1, retry=None))

        assert set(Heartbeat.objects.values_list("part", flat=True)) == {"beat"}

    def test_that_cannot_be_written_harms_nothing(self, beat, server, monkeypatch):
        one = beat()
        one.tick()

        def broken(part: str) -> None:
            raise RuntimeError(part)

        monkeypatch.setattr(incidents, "seen", broken)

        beats.throb(one, server)


# --- real processes ---------------------------------------------------------------------------------------------------
class Bells:
    """Beats as child processes, and what they rang into a Redis of this test's own."""

    def __init__(self, log: Any) -> None:
        parts = urlsplit(settings.REDIS_URL)
        self.database = 15 - int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        self.url = urlunsplit(parts._replace(path=f"/{self.database}"))
        self.server = redis.Redis.from_url(self.url)
        self.server.flushdb()
        self.children: list[subprocess.Popen] = []
        self.log = log

    def start(self, *program: str) -> subprocess.Popen:
        """Start a beat, or another program of Celery's."""
        database = settings.DATABASES["default"]
        at = f"{database['HOST']}:{database['PORT']}"
        url = f"postgres://{database['USER']}:{database['PASSWORD']}@{at}/{connection.settings_dict['NAME']}"
        env = {**os.environ, "DATABASE_URL": url, "REDIS_URL": self.url, "BAILEE_PROCESS": "beat"}
        child = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "config.celery", *(program or ("beat", "--pidfile="))],
            cwd=settings.BASE_DIR,
            env=env,
            stdout=self.log,
            stderr=self.log,
        )
        self.children.append(child)
        return child

    def stop(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            child.wait(timeout=60)

    def cut_off(self) -> None:
        """End the connections of this database, but no other's."""
        for client in self.server.client_list():
            if client["db"] == str(self.database) and client["id"] != str(self.server.client_id()):
                with contextlib.suppress(redis.RedisError):
                    self.server.client_kill(client["addr"])

    def rung(self) -> Counter:
        return Counter(
            json.loads(bell)["headers"]["task"] for queue in QUEUES for bell in self.server.lrange(queue, 0, -1)
        )


def until(is_so: Any, within: float = 60) -> None:
    end = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


class TestProcesses:
    @pytest.fixture
    def bells(self, scheduled, tmp_path):
        with (tmp_path / "log").open("w") as log:
            bells = Bells(log)
            yield bells
            for child in bells.children:
                if child.poll() is None:
                    child.kill()
                child.wait()
        bells.server.flushdb()

    def test_ring_as_one_and_outlive_the_leader(self, bells):
        """Two beats: what they say they rang is what was rung; the leader is killed, and the other goes on."""
        all_rang(timedelta(hours=1, seconds=1))
        first, second = bells.start(), bells.start()
        until(lambda: bells.rung()[EVERY_SECOND] >= 2)
        assert bells.rung()[HOURLY] == 1
        assert len(leaders()) == 1
        [leader] = leaders()
        until(lambda: Heartbeat.objects.filter(part="redis").exists())

        os.kill(leader, signal.SIGKILL)
        until(lambda: leaders() and leaders() != {leader})
        told, heard = bells.rung()[EVERY_SECOND], PeriodicTask.objects.get(name=EVERY_SECOND).total_run_count
        until(lambda: bells.rung()[EVERY_SECOND] >= told + 2)
        assert leaders() == {first.pid, second.pid} - {leader}

        bells.stop()
        assert bells.rung()[HOURLY] == 1, "the other does not ring again what was rung"
        counts = dict(PeriodicTask.objects.values_list("name", "total_run_count"))
        assert heard <= counts[EVERY_SECOND]
        # two that rang at once would ring twice what each wrote down; a kill may leave its last second unwritten
        assert bells.rung()[EVERY_SECOND] - counts[EVERY_SECOND] in (0, 1, 2)

    def test_go_on_when_the_connection_of_the_lock_is_cut_and_redis_emptied(self, bells):
        child = bells.start()
        until(lambda: bells.rung()[EVERY_SECOND] >= 1)

        assert cut_off(f"beat {child.pid}") == 1
        bells.server.flushdb()
        bells.cut_off()

        until(lambda: bells.rung()[EVERY_SECOND] >= 2)
        assert leaders() == {child.pid}
        assert child.poll() is None

    def test_of_workers_write_down_how_tasks_ran(self, bells):
        bells.start("worker", "--queues", "default", "--pool", "prefork", "--concurrency", "1", "--without-mingle")
        bells.start()

        until(lambda: TaskRun.objects.filter(task="accounts.tasks.tell_alerts", runs__gte=1).exists())

        row = TaskRun.objects.get(task="accounts.tasks.tell_alerts")
        assert (row.failures, row.last_error) == (0, "")
        assert row.started_at <= row.finished_at
        assert row.duration_ms >= 0
