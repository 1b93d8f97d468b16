"""The clocks of jobs, rung by real beats and enforced by real workers, whatever happens to them."""

from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction

from accounts import clock
from accounts.models import Event
from escrow.models import LedgerAccount, Transfer
from marketplace.models import Job, Transition
from marketplace.tests import processes
from marketplace.tests.processes import wait_until
from marketplace.tests.test_deadlines import CHEAP

pytestmark = pytest.mark.django_db(transaction=True)
HOURS = 3_600
OUTCOMES = {"negotiating": "expired", "delivered": "completed"}


@pytest.fixture
def plant(tmp_path, transactional_db):
    with processes.plant(tmp_path) as made:
        yield made


class Batch:
    """Jobs whose clocks run out one after the other."""

    def __init__(self, trade, count: int, credit) -> None:
        credit(trade.client, count * 10_000_000)
        self.states = {trade.now(state, **CHEAP).pk: state for state in OUTCOMES for _ in range(count // len(OUTCOMES))}

    def run_out(self, *, within_seconds: float) -> None:
        """Let them come due from now on, evenly over so many seconds."""
        step, begin = within_seconds / len(self.states), clock.now()
        with transaction.atomic():
            for number, pk in enumerate(self.states):
                due = begin + timedelta(seconds=number * step)
                Job.objects.filter(pk=pk).update(deadline_at=due, near_at=due)
        self.due = dict(Job.objects.filter(pk__in=self.states).values_list("pk", "deadline_at"))

    def done(self) -> int:
        return Transition.objects.filter(job__in=self.states, by="system").count()

    def wait(self, count: int | None = None) -> None:
        wanted = len(self.states) if count is None else count
        wait_until(lambda: self.done() >= wanted, what=f"{wanted} of {len(self.states)} jobs")

    def check(self) -> None:
        """Each fired once, by the step that was announced, and not a moment early."""
        steps = Transition.objects.filter(job__in=self.states, by="system")
        fired: dict[object, datetime] = dict(steps.values_list("job_id", "occurred_at"))
        assert steps.count() == len(fired) == len(self.states)
        assert [pk for pk, at in fired.items() if at < self.due[pk]] == []
        jobs = Job.objects.filter(pk__in=self.states)
        assert {job.pk: job.state for job in jobs} == {pk: OUTCOMES[was] for pk, was in self.states.items()}
        assert {job.deadline_failures for job in jobs} == {0}
        paid = [state for state in self.states.values() if state == "delivered"]
        assert Transfer.objects.filter(reference__endswith=":close").count() == len(paid)
        told = Event.objects.filter(type__in=["job.expired", "job.auto_approved"])
        assert told.count() == 2 * len(self.states)
        assert not Event.objects.filter(type="job.deadline_near").exists()


@pytest.mark.parametrize(("jobs", "beats", "workers"), [
    (60, 2, 2),
    pytest.param(1_000, 2, 4, marks=pytest.mark.long),
])  # fmt: skip
def test_all_fire_once_though_redis_loses_everything(plant, trade, credit, jobs, beats, workers):
    plant.wait_for(*[plant.beat() for _ in range(beats)], *[plant.worker() for _ in range(workers)])
    batch = Batch(trade, jobs, credit)

    batch.run_out(within_seconds=jobs / 100)
    batch.wait(jobs // 4)
    plant.redis.flushall()
    batch.wait()

    batch.check()


@pytest.mark.parametrize(("jobs", "workers"), [(40, 1), pytest.param(500, 4, marks=pytest.mark.long)])
def test_a_rolling_restart_loses_none_and_repeats_none(plant, trade, credit, jobs, workers):
    """Each worker is told to end when the one that takes its place is at work."""
    old = [plant.worker() for _ in range(workers)]
    plant.wait_for(plant.beat(), *old)
    batch = Batch(trade, jobs, credit)

    batch.run_out(within_seconds=4 * workers)
    for worker in old:
        plant.wait_for(plant.worker())
        assert worker.end_in_order() == 0
    batch.wait()

    batch.check()


def test_what_a_killed_worker_held_is_done_by_another(plant, trade, credit):
    worker = plant.worker()
    plant.wait_for(plant.beat(), worker)
    batch = Batch(trade, 2, credit)

    with transaction.atomic():
        # Its payment waits for this account: the worker holds the job meanwhile, with its step half done.
        LedgerAccount.objects.select_for_update(no_key=True).get(kind="available", owner_key=str(trade.seller.pk))
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        run_out_elsewhere(batch)
        wait_until(somebody_waits, what="the worker to come to its payment")
        worker.kill()
        plant.worker()
    batch.wait()

    batch.check()


@pytest.mark.parametrize("seconds", [2 * HOURS, pytest.param(-2 * HOURS, marks=pytest.mark.long)])
def test_the_clock_of_a_worker_makes_nothing_early_or_late(plant, trade, credit, seconds):
    plant.wait_for(plant.beat(), plant.worker(clock_seconds=seconds))
    later, due = Batch(trade, 4, credit), Batch(trade, 10, credit)

    due.run_out(within_seconds=3)
    due.wait()

    due.check()
    assert later.done() == 0


def run_out_elsewhere(batch):
    """Commit beside the transaction that this test holds open."""
    import threading

    from django.db import connections

    def run() -> None:
        batch.run_out(within_seconds=0.1)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def somebody_waits() -> bool:
    """Tell whether another session waits for what this one has locked."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])
