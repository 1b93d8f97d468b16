"""What outages make of clocks, against a clock that is ticked by hand."""

from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import ids
from accounts.models import Event
from marketplace import deadlines, incidents, jobs, lifecycle, locking, standstills
from marketplace.lifecycle import Role, TransitionNotAllowed
from marketplace.models import Job, Standstill
from marketplace.models.incidents import LastStandstill
from marketplace.tests.outages import ends_at, move_all
from marketplace.tests.trades import Trade

pytestmark = pytest.mark.django_db(transaction=False)

MINUTE = timedelta(minutes=1)
EXAMPLES = settings(deadline=None, suppress_health_check=list(HealthCheck))


class World:
    """The minutes of a day, in which incidents begin and end and clocks are started, moved and read."""

    def __init__(self, trade, pattern):
        self.pattern = pattern
        self.trade, self.began_at, self.now = trade, trade.at, 1_000
        self.open, self.spans, self.last_end = {}, [], 0
        self.clocks = []

    def at(self, tick):
        return self.began_at + tick * MINUTE

    def start(self, back):
        since = self.now - back
        incident = incidents.start(reason="x", since=self.at(since), at=self.at(self.now))
        self.open[incident.pk] = max(since, self.last_end)
        assert incident.started_at == self.at(self.open[incident.pk])

    def end(self, which):
        if self.open:
            pk = sorted(self.open)[which % len(self.open)]
            incidents.end(pk, at=self.at(self.now))
            self.spans.append((self.open.pop(pk), self.now))
            self.last_end = self.last_end if self.open else self.now

    def end_all(self):
        while self.open:
            self.end(0)

    def clock(self, ticks):
        job = copied(self.pattern, self.at(self.now), ticks * MINUTE)
        self.clocks.append({"id": job.pk, "started": self.now, "ticks": ticks, "frozen": False})
        self.clocks[-1] |= {"funded": self.now, "delivery": ticks}

    def move(self, limit):
        standstills.move_due(limit=limit)

    def lock(self, which):
        if self.clocks:
            with transaction.atomic():
                locking.lock(self.clocks[which % len(self.clocks)]["id"], at=self.at(self.now))

    def freeze(self, which):
        running = [one for one in self.clocks if not one["frozen"]]
        if not running:
            return
        one = running[which % len(running)]
        with suppress(TransitionNotAllowed):
            self.trade.freeze(Job.objects.get(pk=one["id"]), at=self.at(self.now))
            one["frozen"] = True
            one["left"] = one["ticks"] - self._ticked(one["started"])

    def resume(self, which, consented):
        frozen = [one for one in self.clocks if one["frozen"]]
        if not frozen:
            return
        one = frozen[which % len(frozen)]
        jobs.resume(one["id"], by=Role.CLIENT, consented=consented, at=self.at(self.now))
        one["frozen"] = False
        Job.objects.filter(pk=one["id"]).update(client_disputes_left=1)
        if consented:
            one["started"], one["ticks"] = self.now, one["left"]

    def _ticked(self, started):
        spans = [*self.spans, *((began, self.now) for began in self.open.values())]
        still = {tick for began, ended in spans for tick in range(began, ended)}
        return len(set(range(started, self.now)) - still)

    def check(self, *, moved):
        for one in self.clocks:
            job = Job.objects.get(pk=one["id"])
            expected = self.at(ends_at(one["started"], one["ticks"], self.spans))
            assert (job.review_by if one["frozen"] else job.deadline_at) == expected
            assert job.deliver_by == self.at(ends_at(one["funded"], 2 * one["delivery"], self.spans))
            assert job.standstill == moved

    def play(self, moves):
        for gap, name, *details in moves:
            self.now += gap
            getattr(self, name)(*details)
        self.now += 1
        self.end_all()
        move_all(limit=2)
        last = Standstill.objects.order_by("-number").first()
        self.check(moved=last.number if last else 0)
        assert not Standstill.objects.filter(moved_at=None).exists()
        assert move_all() == 0


def copied(pattern, at, span):
    """Write a job that was delivered at a moment, without the sixty statements that bring one there."""
    job, offer = Job.objects.get(pk=pattern.pk), pattern.offers.get()
    job.pk, job.standstill = ids.uuid7(), LastStandstill()
    job.funded_at = job.deadline_from = at
    job.review_by = job.deadline_at = at + span
    job.deliver_by, job.near_at = at + 2 * span, None
    job.save(force_insert=True)
    offer.pk, offer.job = ids.uuid7(), job
    offer.save(force_insert=True)
    return job


GAP, WHICH = st.integers(0, 40), st.integers(0, 5)
TICKS = st.integers(60, 200)
END = st.tuples(GAP, st.just("end"), WHICH)
CLOCK = st.tuples(GAP, st.just("clock"), TICKS)
MOVE = st.tuples(GAP, st.just("move"), st.integers(1, 3))
LOCK = st.tuples(GAP, st.just("lock"), WHICH)
OUTAGES = st.one_of(st.tuples(GAP, st.just("start"), st.integers(0, 60)), END, CLOCK, MOVE, LOCK)
FREEZES = st.one_of(
    st.tuples(GAP, st.just("start"), st.just(0)),
    END,
    CLOCK,
    MOVE,
    LOCK,
    st.tuples(GAP, st.just("freeze"), WHICH),
    st.tuples(GAP, st.just("resume"), WHICH, st.booleans()),
)


def played(trade, moves):
    with transaction.atomic():
        pattern = trade.job("delivered")
        Job.objects.filter(pk=pattern.pk).update(standstill=2**30)  # none of those that are looked at
        World(trade, pattern).play(moves)
        transaction.set_rollback(True)


class TestAnyOutages:
    @settings(EXAMPLES, max_examples=12)
    @given(st.lists(OUTAGES, min_size=3, max_size=14))
    def test_move_a_clock_by_the_time_it_stood_still(self, trade, moves):
        played(trade, moves)

    @settings(EXAMPLES, max_examples=12)
    @given(st.lists(FREEZES, min_size=4, max_size=16))
    def test_leave_a_frozen_clock_what_it_had_left(self, trade, moves):
        played(trade, [(0, "clock", 100), *moves])

    @pytest.mark.long
    @settings(EXAMPLES, max_examples=600)
    @given(st.lists(st.one_of(OUTAGES), min_size=3, max_size=40))
    def test_move_a_clock_by_the_time_it_stood_still_at_length(self, trade, moves):
        played(trade, moves)

    @pytest.mark.long
    @settings(EXAMPLES, max_examples=600)
    @given(st.lists(FREEZES, min_size=4, max_size=40))
    def test_leave_a_frozen_clock_what_it_had_left_at_length(self, trade, moves):
        played(trade, [(0, "clock", 100), *moves])


class TestEveryClock:
    @pytest.fixture
    def outage(self, trade):
        """An outage of ten minutes that began one minute after the trade did."""

        def outage(began=60, lasts=600):
            incident = incidents.start(reason="x", since=trade.later(began), at=trade.later(began))
            incidents.end(incident.pk, at=trade.later(began + lasts))

        return outage

    @pytest.mark.parametrize("state", ["negotiating", "agreed", "funded", "in_progress", "delivered", "revising"])
    def test_is_later_by_the_outage(self, trade, outage, state):
        before = trade.job(state)
        outage()

        assert move_all() == 1

        job, later = Job.objects.get(pk=before.pk), timedelta(minutes=10)
        assert job.deadline_at == before.deadline_at + later
        assert job.near_at == before.near_at + later
        clock = {"funded": "deliver_by", "in_progress": "deliver_by", "delivered": "review_by", "revising": "revise_by"}
        if state in clock:
            assert getattr(job, clock[state]) == job.deadline_at
        if state == "negotiating":
            assert job.offers.get().expires_at == job.deadline_at

    def test_that_was_over_before_is_not_saved(self, trade, outage):
        before = trade.job("delivered", review_seconds=3_600)
        outage(began=3_600)

        move_all()

        job = Job.objects.get(pk=before.pk)
        assert (job.deadline_at, job.standstill) == (before.deadline_at, 1)

    def test_that_was_started_meanwhile_is_later_by_the_rest(self, trade, outage):
        incident = incidents.start(reason="x", at=trade.later(-60))
        before = trade.job("delivered")
        incidents.end(incident.pk, at=trade.later(240))

        move_all()

        assert Job.objects.get(pk=before.pk).deadline_at == before.deadline_at + timedelta(seconds=240)

    def test_that_was_started_while_the_end_was_being_committed_is_not_moved_back(self, trade, outage):
        before = trade.job("delivered")
        outage(began=-900, lasts=600)
        Job.objects.filter(pk=before.pk).update(standstill=0)

        move_all()

        assert Job.objects.get(pk=before.pk).deadline_at == before.deadline_at

    def test_is_told_to_both_parties_once(self, trade, outage, alice, bob):
        job = trade.job("delivered")
        outage()

        move_all()
        locking.lock(job.pk)

        told = list(Event.objects.filter(type="incident.ended"))
        assert sorted(one.recipient_id for one in told) == sorted([alice.pk, bob.pk])
        data = told[0].data
        assert (data["job_id"], data["standstill"], data["moved_seconds"]) == (str(job.pk), 1, 600)
        assert data["deadline"]["at"] == "2026-11-21T14:10:00Z"
        assert data["deadline"]["action"] == "auto_approve"

    def test_keeps_a_revision_at_least_as_long_as_the_time_of_delivery(self, trade):
        job = trade.job("delivered", delivery_seconds=86_400, revision_seconds=3_600)
        incident = incidents.start(reason="x", at=trade.later(60))
        Trade(trade.client, trade.seller, trade.later(120))._revise(job)
        incidents.end(incident.pk, at=trade.later(660))

        move_all()

        job = Job.objects.get(pk=job.pk)
        assert job.deadline_at == job.revise_by == job.deliver_by == trade.later(86_400 + 600)

    def test_is_caught_up_by_whoever_locks_it(self, trade, outage, alice):
        before = trade.job("delivered", review_seconds=3_600)
        outage()

        job = locking.lock(before.pk, at=trade.later(4_000))

        assert job.deadline_at == before.deadline_at + timedelta(minutes=10)
        assert lifecycle.Action.REQUEST_REVISION in lifecycle.available(job, Role.CLIENT, job.at)


class TestWhileItLasts:
    def test_a_party_is_in_time_after_its_clock(self, trade):
        job = trade.job("in_progress")
        incidents.start(reason="x", at=trade.later(3_599))

        delivered = Trade(trade.client, trade.seller, trade.later(9_000))._deliver(job)

        assert delivered.state == "delivered"
        assert delivered.review_by == trade.later(9_000 + 7_200)

    def test_a_party_that_was_late_before_stays_late(self, trade):
        job = trade.job("in_progress")
        incidents.start(reason="x", at=trade.later(3_600))

        with pytest.raises(TransitionNotAllowed):
            Trade(trade.client, trade.seller, trade.later(3_601))._deliver(job)

    def test_nothing_fires_not_even_what_was_over_before(self, trade):
        job = trade.job("delivered")
        incident = incidents.start(reason="x", at=trade.later(7_300))

        assert deadlines.enforce(job.pk, at=trade.later(8_000)) is None
        incidents.end(incident.pk, at=trade.later(8_100))
        assert deadlines.enforce(job.pk, at=trade.later(8_200)).state == "completed"

    def test_nobody_is_reminded(self, trade):
        job = trade.job("delivered")
        incident = incidents.start(reason="x", at=trade.later(60))

        assert deadlines.remind(job.pk, at=job.near_at) is None
        incidents.end(incident.pk, at=job.near_at)
        assert deadlines.remind(job.pk, at=job.near_at) is None
        assert deadlines.remind(job.pk, at=job.near_at + (job.near_at - trade.later(60))) is not None

    def test_a_reader_is_shown_what_it_may_do(self, trade, client_for):
        job = trade.now("in_progress")
        Job.objects.filter(pk=job.pk).update(deadline_at=job.deadline_at - timedelta(hours=2))
        seller = client_for(trade.seller)

        def offered():
            return {one["action"] for one in seller.get(f"/jobs/{job.pk}").json()["available_actions"]}

        assert "deliver" not in offered()
        incidents.start(reason="x", since=job.deadline_at - timedelta(hours=2, minutes=1))
        assert "deliver" in offered()
