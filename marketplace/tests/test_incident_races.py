"""Outages while everybody is at work: each row is moved once, each incident ended once, and a killed batch goes on."""

from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import transaction

from accounts import clock
from accounts.models import Event
from marketplace import deadlines, incidents, jobclocks, jobs, locking, standstills
from marketplace.models import Heartbeat, Incident, Job, Standstill
from marketplace.tests.outages import move_all, silence

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 8
OUTAGE = timedelta(minutes=10)
CHEAP = {"price": "1.000000", "seller_bond": "0.100000", "client_abort_fee": "0.000000"}


@pytest.fixture
def outage_of(trade):
    """Make jobs that were delivered an hour ago, and an outage of the last ten minutes that is over."""

    def make(count):
        made = [trade.now("delivered", **CHEAP) for _ in range(count)]
        for job in made:
            earlier = {"deadline_at": job.deadline_at - 2 * OUTAGE, "deadline_from": job.deadline_from - 6 * OUTAGE}
            Job.objects.filter(pk=job.pk).update(**earlier)
        incident = incidents.start(reason="x", since=clock.now() - OUTAGE)
        incident = incidents.end(incident.pk)
        took = incident.ended_at - incident.started_at
        return {job.pk: job.deadline_at - 2 * OUTAGE + took for job in made}

    return make


def deadlines_of(jobs_made):
    return dict(Job.objects.filter(pk__in=jobs_made).values_list("pk", "deadline_at"))


class TestOnce:
    def test_an_incident_is_ended_by_one(self, race):
        incident = incidents.start(reason="x", since=clock.now() - OUTAGE)

        outcomes = race(*[lambda: incidents.end(incident.pk)] * THREADS)

        ended = [one for one in outcomes if isinstance(one, Incident)]
        assert len(ended) == 1
        assert sum(isinstance(one, incidents.AlreadyEnded) for one in outcomes) == THREADS - 1
        assert Standstill.objects.get().ended_at == ended[0].ended_at

    def test_incidents_that_begin_and_end_at_once_make_no_standstill_twice(self, race):
        def come_and_go():
            for _ in range(3):
                incidents.end(incidents.start(reason="x").pk)

        assert race(*[come_and_go] * THREADS) == [None] * THREADS

        assert not Standstill.objects.filter(ended_at=None).exists()
        assert Incident.objects.count() == 3 * THREADS
        spans = list(Standstill.objects.order_by("number").values_list("started_at", "ended_at"))
        assert all(before[1] <= after[0] for before, after in pairwise(spans))

    def test_a_silence_is_recorded_once(self, race):
        silence("beat", 600)

        race(*[incidents.look] * 4, *[lambda: incidents.seen("beat")] * 4)

        assert Incident.objects.count() == 1
        incidents.seen("beat")
        assert Incident.objects.get().ended_at is not None

    def test_rows_are_moved_by_one_of_many_movers(self, race, outage_of):
        expected = outage_of(12)

        outcomes = race(*[lambda: move_all(limit=2)] * THREADS)
        move_all()

        assert all(isinstance(one, int) for one in outcomes)
        assert sum(outcomes) == 12
        assert deadlines_of(expected) == expected
        assert Event.objects.filter(type="incident.ended").count() == 24
        assert Standstill.objects.get().moved_at is not None

    def test_whoever_locks_a_job_while_it_is_moved_acts_on_the_later_clock(self, race, outage_of):
        expected = outage_of(4)

        def act(job_id):
            with transaction.atomic():
                assert locking.lock(job_id).deadline_at == expected[job_id]

        outcomes = race(*[lambda: move_all(limit=1)] * 4, *[lambda pk=pk: act(pk) for pk in expected])

        assert [one for one in outcomes if isinstance(one, Exception)] == []
        assert deadlines_of(expected) == expected
        assert Event.objects.filter(type="incident.ended").count() == 8

    def test_a_fresh_heartbeat_waits_for_no_incident(self, race):
        incidents.seen("worker")
        Heartbeat.objects.update(at=clock.now() - timedelta(seconds=5))

        with transaction.atomic():
            incidents.start(reason="x")
            [outcome] = race(lambda: incidents.seen("worker"))

        assert outcome is None
        assert clock.now() - Heartbeat.objects.get().at < timedelta(seconds=5)


class TestKilled:
    def test_a_batch_that_dies_in_the_middle_is_gone_on_with(self, outage_of, monkeypatch):
        expected = outage_of(9)
        news, told = jobclocks._news, []

        def dies_at_the_fifth(*given):
            told.append(given)
            if len(told) == 5:
                raise KeyboardInterrupt
            return news(*given)

        monkeypatch.setattr(jobclocks, "_news", dies_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            move_all(limit=3)
        assert Job.objects.filter(standstill=1, pk__in=expected).count() == 3
        assert Standstill.objects.get().moved_at is None
        monkeypatch.undo()

        assert move_all(limit=3) == 6

        assert deadlines_of(expected) == expected
        assert Event.objects.filter(type="incident.ended").count() == 18
        assert Standstill.objects.get().moved_at is not None

    def test_one_row_that_somebody_holds_is_waited_for(self, race, outage_of):
        expected = outage_of(3)
        held = sorted(expected)[0]

        with transaction.atomic():
            Job.objects.select_for_update(no_key=True).get(pk=held)
            assert race(lambda: move_all()) == [2]
            assert Standstill.objects.get().moved_at is None

        assert move_all() == 1
        assert deadlines_of(expected) == expected


class TestSweeps:
    def test_nothing_fires_once_an_incident_is_declared(self, race, trade):
        made = [trade.now("delivered", **CHEAP) for _ in range(8)]
        over = clock.now() - timedelta(seconds=1)
        Job.objects.update(deadline_at=over, near_at=None)

        *_, declared = race(
            *[lambda: [deadlines.enforce(job.pk) for job in made]] * (THREADS - 1),
            lambda: (incidents.start(reason="x"), clock.now())[1],
        )

        fired = Job.objects.filter(state="completed")
        assert all(job.updated_at <= declared for job in fired)
        count = fired.count()
        assert deadlines.enforce_due() == 0
        assert [deadlines.enforce(job.pk) for job in made] == [None] * 8
        assert fired.count() == count
        incidents.end(incidents.open_now()[0].pk)
        assert deadlines.enforce_due() == 8 - count

    def test_a_worker_that_slept_between_gate_and_item_fires_nothing(self, trade):
        """The sweep found the job due; then the worker was stopped, and the world went on without it."""
        job = trade.now("delivered")
        Job.objects.update(deadline_at=clock.now() - timedelta(seconds=1), near_at=None)
        incidents.seen("worker")
        assert incidents.may_fire()

        silence("worker", 600)

        assert deadlines.enforce(job.pk) is None

    def test_an_approval_goes_on_while_clocks_stand_still(self, trade):
        job = trade.now("delivered")
        incidents.start(reason="x")

        assert jobs.approve(job.pk, client=trade.client).state == "completed"


def test_movers_are_jobs_and_cases():
    assert [type(mover).__name__ for mover in standstills.movers] == ["JobMover", "CaseMover"]
