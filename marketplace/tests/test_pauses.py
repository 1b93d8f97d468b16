"""While new jobs are paused nothing new begins, and what has begun goes on to its end."""

import pytest

from accounts import pauses
from accounts.models import Event
from marketplace import jobs, listings, offers
from marketplace.models import Job, Listing
from marketplace.tests.trades import TERMS

pytestmark = pytest.mark.django_db


@pytest.fixture
def paused(django_user_model):
    def paused():
        pauses.pause("new_jobs", by=django_user_model.objects.create_superuser("root"), reason="A drill.")

    return paused


class TestNewJobs:
    def test_are_refused_with_the_reason_and_nothing_changes(self, trade, client_for, paused):
        agreed = trade.now("agreed")
        paused()
        client, seller = client_for(trade.client), client_for(trade.seller)
        jobs_before, events_before = Job.objects.count(), Event.objects.count()
        listing = {"title": "Words", "description": "Words.", "skills": [], "price": "1", "delivery_seconds": 60}

        answers = [
            client.post("/jobs", {"seller": "bob", "terms": TERMS}),
            client.post(f"/jobs/{agreed.id}/funding", {}, key="new"),
            seller.post("/listings", listing),
        ]

        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "paused"), answer.content
            assert answer.json()["detail"] == "A drill."
        assert Job.objects.get(pk=agreed.id).state == "agreed"
        assert (Job.objects.count(), Event.objects.count()) == (jobs_before, events_before)
        assert not Listing.objects.exists()

    def test_begin_again_when_a_person_resumes(self, trade, paused, django_user_model):
        paused()
        pauses.resume("new_jobs", by=django_user_model.objects.get(username="root"), reason="The drill is over.")

        assert trade.job("funded").state == "funded"

    def test_a_listing_may_be_paused_but_not_activated(self, bob, noon, paused):
        listing = listings.create(
            bob, title="Words", description="Words.", skills=[], price_units=1_000_000, delivery_seconds=60, at=noon
        )
        paused()

        listings.change(listing.id, seller=bob, at=noon, status="paused")
        with pytest.raises(pauses.Paused):
            listings.change(listing.id, seller=bob, at=noon, status="active")


class TestWhatHasBegun:
    @pytest.mark.parametrize("state", ["funded", "in_progress", "delivered", "revising"])
    def test_is_settled_by_agreement(self, trade, paused, state):
        from marketplace import settlements

        job = trade.job(state)
        paused()

        settlements.offer(job.id, by=trade.client, seller_bps=5_000, at=trade.at)
        done = settlements.offer(job.id, by=trade.seller, seller_bps=5_000, at=trade.at)

        assert done.state == "resolved"

    def test_is_delivered_and_approved(self, trade, paused):
        job = trade.job("in_progress")
        paused()

        trade._deliver(job)

        assert jobs.approve(job.id, client=trade.client, at=trade.at).state == "completed"

    def test_is_given_up(self, trade, paused):
        job = trade.job("in_progress")
        paused()

        assert jobs.abort(job.id, by=trade.seller, reason="ill", at=trade.at).state == "cancelled"

    def test_an_offer_is_declined(self, trade, paused):
        job = trade.job("negotiating")
        paused()

        assert offers.decline(job.id, by=trade.seller, reason="", at=trade.at).state == "cancelled"
