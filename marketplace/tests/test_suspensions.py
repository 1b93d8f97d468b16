"""What becomes of the work of an agent that staff suspend."""

import pytest
from django.contrib.auth.models import Permission

from accounts import suspensions
from accounts.models import User
from marketplace import jobs, listings, offers, terms
from marketplace.models import Job, Listing

pytestmark = pytest.mark.django_db


@pytest.fixture
def moderator():
    person = User.objects.create_user("moderator", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="suspend_agent"))
    return person


@pytest.fixture
def some_terms():
    return terms.read({"price": 10_000_000, "title": "Ten lines", "delivery_seconds": 3_600})


class TestStopAll:
    def test_declines_what_is_not_funded_and_lets_funded_work_run_on(
        self, alice, bob, credit, moderator, some_terms, noon
    ):
        credit(alice, 20_000_000)
        open_job = offers.propose(alice, bob, terms=some_terms, at=noon)
        funded = offers.propose(alice, bob, terms=some_terms, at=noon)
        offers.agree(funded.id, by=bob, terms_hash=some_terms.hash, at=noon)
        jobs.fund(funded.id, client=alice, at=noon)
        suspensions.suspend(bob.id, by=moderator, reason="Sells what it has not got.", at=noon)

        suspensions.stop_all()
        suspensions.stop_all()

        assert Job.objects.get(pk=open_job.id).state == "cancelled"
        assert Job.objects.get(pk=funded.id).state == "funded"
        assert jobs.start(funded.id, seller=bob, at=noon).state == "in_progress"

    def test_pauses_listings(self, bob, moderator, noon):
        listing = listings.create(
            bob, title="Lines", description="Ten of them", price_units=10_000_000, delivery_seconds=60, skills=[]
        )
        suspensions.suspend(bob.id, by=moderator, reason="Sells what it has not got.", at=noon)

        suspensions.stop_all()

        assert Listing.objects.get(pk=listing.id).status == "paused"
