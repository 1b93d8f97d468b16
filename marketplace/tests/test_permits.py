"""Limits that staff set, at each row of the job table that asks for them; exact however many ask at once."""

from functools import partial

import pytest
from django.db import transaction

from accounts import limits
from accounts.models import Agent
from marketplace import jobs, listings, offers, permits, terms
from marketplace.models import Job

pytestmark = pytest.mark.django_db


def priced(units):
    return terms.read({"price": units, "title": "Ten lines", "delivery_seconds": 3_600})


def bound(agent, **columns):
    Agent.objects.filter(pk=agent.pk).update(**columns)
    agent.refresh_from_db()


@pytest.fixture
def make_job(alice, bob, credit, noon):
    """Make a job of 10 USDC of alice's with bob that is negotiating, agreed or funded."""
    credit(alice, 500_000_000)

    def make(state="negotiating", units=10_000_000, client=alice, seller=bob):
        agreed = priced(units)
        job = offers.propose(client, seller, terms=agreed, at=noon)
        if state == "negotiating":
            return job
        job = offers.agree(job.id, by=seller, terms_hash=agreed.hash, at=noon)
        return job if state == "agreed" else jobs.fund(job.id, client=client, at=noon)

    return make


def steps(alice, bob, noon):
    """Each row of the table that says "limits of both", from the state before it."""
    ten = priced(10_000_000)
    return {
        "1 propose": ("", lambda job: offers.propose(alice, bob, terms=ten, at=noon)),
        "2 counter": ("negotiating", lambda job: offers.counter(job.id, by=bob, terms=ten, at=noon)),
        "3 agree": ("negotiating", lambda job: offers.agree(job.id, by=bob, terms_hash=ten.hash, at=noon)),
        "6 fund": ("agreed", lambda job: jobs.fund(job.id, client=alice, at=noon)),
    }


ROWS = ["1 propose", "2 counter", "3 agree", "6 fund"]


class TestRows:
    @pytest.mark.parametrize("row", ROWS)
    @pytest.mark.parametrize("side", ["client", "seller"])
    @pytest.mark.parametrize(
        ("columns", "limit"),
        [({"level_by_staff": 0}, "job_value"), ({"max_job_units": 9_999_999}, "job_value")],
        ids=["level", "value of one job"],
    )
    def test_ask_both_sides_for_level_and_value(self, make_job, alice, bob, noon, row, side, columns, limit):
        before, step = steps(alice, bob, noon)[row]
        job = make_job(before) if before else None
        bound(alice if side == "client" else bob, **columns)

        with pytest.raises(limits.LimitExceeded) as refusal:
            step(job)

        assert refusal.value.members == {"agent": "alice" if side == "client" else "bob", "limit": limit}

    @pytest.mark.parametrize("row", ROWS)
    @pytest.mark.parametrize("side", ["client", "seller"])
    @pytest.mark.parametrize(
        ("columns", "limit"),
        [({"max_open_jobs": 1}, "open_jobs"), ({"max_open_units": 19_999_999}, "open_value")],
        ids=["open jobs", "open value"],
    )
    def test_count_what_is_open_for_a_client_at_once_for_a_seller_from_agreed(
        self, make_job, alice, bob, noon, row, side, columns, limit
    ):
        before, step = steps(alice, bob, noon)[row]
        make_job("agreed")
        job = make_job(before) if before else None
        bound(alice if side == "client" else bob, **columns)

        if side == "seller" and row in ("1 propose", "2 counter"):
            assert step(job).state == "negotiating"
            return
        with pytest.raises(limits.LimitExceeded) as refusal:
            step(job)
        assert refusal.value.members["limit"] == limit

    @pytest.mark.parametrize("row", ROWS)
    @pytest.mark.parametrize("columns", [{"max_open_jobs": 2}, {"max_open_units": 20_000_000}])
    def test_let_pass_what_reaches_the_limit(self, make_job, alice, bob, noon, row, columns):
        before, step = steps(alice, bob, noon)[row]
        make_job("agreed")
        job = make_job(before) if before else None
        bound(alice, **columns)
        bound(bob, **columns)

        assert step(job).state

    def test_count_a_counter_at_its_new_price(self, make_job, alice, bob, noon):
        job = make_job()
        bound(alice, max_open_units=12_000_000)

        with pytest.raises(limits.LimitExceeded):
            offers.counter(job.id, by=bob, terms=priced(12_000_001), at=noon)
        assert offers.counter(job.id, by=bob, terms=priced(12_000_000), at=noon).price_units == 12_000_000

    def test_count_nothing_that_is_over(self, make_job, alice, bob, noon):
        offers.decline(make_job().id, by=bob, at=noon)
        bound(alice, max_open_jobs=1)

        assert make_job().state == "negotiating"

    def test_touch_no_funded_job(self, make_job, alice, bob, noon):
        job = make_job("funded")
        bound(bob, max_open_jobs=0, level_by_staff=0)

        assert jobs.start(job.id, seller=bob, at=noon).state == "in_progress"

    def test_bind_listings_by_the_value_of_one_job(self, bob):
        bound(bob, max_job_units=1_000_000)

        with pytest.raises(limits.LimitExceeded):
            listings.create(
                bob, title="Lines", description="Ten", price_units=1_000_001, delivery_seconds=60, skills=[]
            )

    def test_keep_how_far_they_reach_from_the_other_side(self, make_job, alice, bob, noon):
        job = make_job()
        bound(bob, max_open_jobs=0)

        with pytest.raises(limits.LimitExceeded) as refusal:
            offers.agree(job.id, by=bob, terms_hash=job.offer.terms_hash, at=noon)

        assert "0" not in refusal.value.detail


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_of_eight_proposals_three_go_where_three_may(self, alice, bob, race):
        bound(alice, max_open_jobs=3)

        outcomes = race(*[lambda: offers.propose(alice, bob, terms=priced(10_000_000))] * 8)

        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Job"] * 3 + ["LimitExceeded"] * 5
        assert Job.objects.count() == 3

    def test_of_eight_agreements_three_go_where_there_is_value_for_three(self, make_agent, bob, race):
        clients = [make_agent(f"client-{number}") for number in range(8)]
        made = [offers.propose(client, bob, terms=priced(10_000_000)) for client in clients]
        bound(bob, max_open_units=39_999_999)

        outcomes = race(
            *(lambda job=job: offers.agree(job.id, by=bob, terms_hash=job.offer.terms_hash) for job in made)
        )

        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Job"] * 3 + ["LimitExceeded"] * 5
        assert Job.objects.filter(state="agreed").count() == 3

    def test_two_who_hire_each_other_do_not_stand_in_each_others_way(self, alice, bob, race):
        for agent in (alice, bob):
            bound(agent, max_open_jobs=100)

        def hire(*pair):
            for _ in range(60):
                with transaction.atomic():
                    limits.require_room(pair, value_units=1, besides=permits.in_use)

        outcomes = race(*(partial(hire, *pair) for pair in [(alice, bob), (bob, alice)] * 4))

        assert outcomes == [None] * 8
