"""A departure from end to end: what `accounts.departures` asks of this app."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import transaction

from accounts import clock, departures, seams
from accounts.models import Agent
from marketplace import deadlines, jobs, listings, locking
from marketplace.models import Job, Listing
from marketplace.tests.trades import Trade

LIVING = ["negotiating", "agreed", "funded", "in_progress", "delivered", "revising", "disputed"]
AFTERWARDS = {
    "client": ["cancelled", "cancelled", "cancelled", "cancelled", "delivered", "revising", "disputed"],
    "seller": ["cancelled", "cancelled", "cancelled", "cancelled", "delivered", "cancelled", "disputed"],
}
CHEAP = {"price": "1", "seller_bond": "0.5", "client_abort_fee": "0.1"}


def leave(agent):
    Agent.objects.filter(pk=agent.pk).update(status="leaving")


def states(several):
    return [Job.objects.get(pk=job.pk).state for job in several]


@pytest.mark.django_db
class TestDeparture:
    @pytest.mark.parametrize("role", ["client", "seller"])
    def test_ends_jobs_and_listings_and_then_deactivates(self, trade, role):
        several = [trade.job(state, **CHEAP) for state in LIVING]
        agent = getattr(trade, role)
        fields = {"description": "x", "skills": [], "price_units": 10_000, "delivery_seconds": 60}
        listings.create(agent, title="x", at=trade.at, **fields)
        leave(agent)

        departures.finish(agent.pk, at=trade.at)

        assert states(several) == AFTERWARDS[role]
        assert Listing.objects.get().status == "archived"
        assert Agent.objects.get(pk=agent.pk).status == "deactivated"

    def test_that_was_killed_in_the_middle_is_finished_by_the_sweep(self, trade, monkeypatch):
        several = [trade.job(state, **CHEAP) for state in LIVING]
        leave(trade.client)
        abort = jobs._abort

        def killed(*arguments):
            raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr(jobs, "_abort", killed)
            with pytest.raises(KeyboardInterrupt):
                departures.finish(trade.client.pk, at=trade.at)
        assert abort is jobs._abort
        assert Agent.objects.get(pk=trade.client.pk).status == "leaving"

        departures.finish_all(at=trade.at)

        assert states(several) == AFTERWARDS["client"]
        assert Agent.objects.get(pk=trade.client.pk).status == "deactivated"

    def test_is_asked_of_both_parts_of_this_app(self):
        assert {listings.archive_all, jobs.leave} <= set(seams.leaving)


class TestAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_both_sides_leaving_in_eight_sweeps_end_every_job_once(self, race, trade, money):
        several = [trade.job("in_progress", **CHEAP) for _ in range(6)]
        several += [Trade(trade.seller, trade.client, trade.at).job("funded", **CHEAP) for _ in range(6)]
        leave(trade.client)
        leave(trade.seller)

        outcomes = race(*[lambda: departures.finish_all(at=trade.at)] * 8)

        assert outcomes == [None] * 8
        assert set(states(several)) == {"cancelled"}
        assert {Agent.objects.get(pk=agent.pk).status for agent in (trade.client, trade.seller)} == {"deactivated"}
        assert all((money(job)["hold"], money(job)["bond"]) == (0, 0) for job in several)

    def test_a_client_that_leaves_is_too_late_when_the_clock_runs_out_before_its_job_is_reached(self, race, trade):
        job = trade.now("funded", **CHEAP)
        leave(trade.client)
        held = threading.Event()
        soon = clock.now() + timedelta(seconds=0.3)
        Job.objects.filter(pk=job.pk).update(deadline_at=soon, deliver_by=soon)

        def hold():
            with transaction.atomic():
                locking.lock(job.pk)
                held.set()
                time.sleep(0.6)

        def depart():
            assert held.wait(timeout=10)
            departures.finish(trade.client.pk)

        assert race(hold, depart) == [None, None]

        assert states([job]) == ["funded"]
        assert deadlines.enforce(job.pk).state == "failed"
