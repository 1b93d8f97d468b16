from datetime import timedelta

import pytest
from django.db import IntegrityError, ProgrammingError, transaction

from accounts import limits, spending, tokens
from accounts.errors import NotAllowed
from accounts.models import Agent, User
from marketplace import listings, offers
from marketplace.lifecycle import TransitionNotAllowed
from marketplace.models import Job, Offer
from marketplace.tests.trades import terms_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def listing(bob, noon):
    return listings.create(
        bob, at=noon, title="Translations", description="Any page", skills=[], price_units=10_000_000,
        delivery_seconds=3_600,
    )  # fmt: skip


class TestPropose:
    def test_opens_a_job_with_the_first_offer(self, alice, bob, noon):
        asked = terms_of()

        job = offers.propose(alice, bob, terms=asked, message="Please", max_rounds=3, offer_seconds=3_600, at=noon)

        offer = Offer.objects.get(job=job)
        assert (job.state, job.revision, job.awaiting, job.max_rounds) == ("negotiating", 1, "seller", 3)
        assert (offer.number, offer.author, offer.terms_hash, offer.message) == (1, alice, asked.hash, "Please")
        assert offer.expires_at == job.deadline_at == noon + timedelta(hours=1)

    def test_copies_the_numbers_of_the_terms_into_the_job(self, alice, bob, noon):
        job = offers.propose(alice, bob, terms=terms_of(max_revisions=1), at=noon)

        stored = Job.objects.get(pk=job.pk)
        assert (stored.price_units, stored.bond_units, stored.client_abort_fee_units, stored.fee_bps) == (
            12_345_678, 3_000_001, 2_000_099, 100,
        )  # fmt: skip
        assert (stored.delivery_seconds, stored.review_seconds, stored.revision_seconds, stored.max_revisions) == (
            3_600, 7_200, 7_200, 1,
        )  # fmt: skip
        assert (stored.max_rounds, stored.offer_seconds, stored.max_deliveries) == (5, 259_200, 10)

    def test_does_not_need_the_money_yet(self, alice, bob, noon, balance_of):
        job = offers.propose(alice, bob, terms=terms_of(), at=noon)

        assert (balance_of("available", alice), balance_of("hold", job)) == (0, 0)

    def test_refuses_oneself(self, alice, noon):
        with pytest.raises(NotAllowed):
            offers.propose(alice, alice, terms=terms_of(), at=noon)

    def test_refuses_another_agent_of_the_same_owner(self, alice, bob, noon):
        owner = User.objects.create(username="owner", email="owner@example.org")
        Agent.objects.update(owner=owner)
        alice.refresh_from_db()
        bob.refresh_from_db()

        with pytest.raises(NotAllowed):
            offers.propose(alice, bob, terms=terms_of(), at=noon)

    @pytest.mark.parametrize("status", ["suspended", "leaving", "deactivated"])
    @pytest.mark.parametrize("who", ["alice", "bob"])
    def test_needs_both_to_be_active(self, alice, bob, noon, who, status):
        {"alice": alice, "bob": bob}[who].status = status

        with pytest.raises(limits.AgentNotActive):
            offers.propose(alice, bob, terms=terms_of(), at=noon)

    def test_needs_both_to_be_allowed_to_trade(self, alice, bob, noon, settings):
        settings.OPEN_TRUST_LEVEL = 0

        with pytest.raises(limits.LimitExceeded):
            offers.propose(alice, bob, terms=terms_of(), at=noon)

    def test_remembers_the_listing(self, alice, bob, noon, listing):
        assert offers.propose(alice, bob, terms=terms_of(), listing=listing, at=noon).listing_id == listing.id

    @pytest.mark.parametrize("status", ["paused", "archived"])
    def test_needs_the_listing_to_be_active(self, alice, bob, noon, listing, status):
        listing.status = status

        with pytest.raises(offers.ListingNotActive):
            offers.propose(alice, bob, terms=terms_of(), listing=listing, at=noon)

    def test_needs_the_listing_to_be_the_sellers(self, alice, carol, noon, listing):
        with pytest.raises(offers.ListingNotActive):
            offers.propose(alice, carol, terms=terms_of(), listing=listing, at=noon)

    def test_is_refused_by_the_database_for_oneself(self, trade):
        job = trade.job()

        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.filter(pk=job.pk).update(seller=trade.client)


class TestCounter:
    def test_answers_with_terms_of_ones_own(self, trade):
        job = trade.job()
        asked = terms_of(price="20", seller_bond="4", delivery_seconds=7_200)

        job = offers.counter(job.id, by=trade.seller, terms=asked, message="More", at=trade.later(60))

        job = Job.objects.get(pk=job.pk)
        assert (job.state, job.revision, job.awaiting, job.offers_count) == ("negotiating", 2, "client", 2)
        assert (job.price_units, job.bond_units, job.delivery_seconds) == (20_000_000, 4_000_000, 7_200)
        assert list(job.offers.order_by("number").values_list("author__handle", flat=True)) == ["alice", "bob"]

    def test_starts_the_offers_clock_anew(self, trade):
        job = trade.job()

        job = offers.counter(job.id, by=trade.seller, terms=terms_of(), at=trade.later(1_000))

        assert job.deadline_at == job.offer.expires_at == trade.later(1_000 + 259_200)

    def test_goes_back_and_forth_until_the_rounds_are_used(self, trade):
        job = offers.propose(trade.client, trade.seller, terms=terms_of(), max_rounds=3, at=trade.at)
        offers.counter(job.id, by=trade.seller, terms=terms_of(price="20"), at=trade.at)
        offers.counter(job.id, by=trade.client, terms=terms_of(price="15"), at=trade.at)

        with pytest.raises(TransitionNotAllowed) as refusal:
            offers.counter(job.id, by=trade.seller, terms=terms_of(price="16"), at=trade.at)

        assert refusal.value.members["available_actions"] == ["agree", "decline"]
        assert Offer.objects.count() == 3

    def test_is_refused_to_the_author_of_the_latest_offer(self, trade):
        job = trade.job()

        with pytest.raises(TransitionNotAllowed):
            offers.counter(job.id, by=trade.client, terms=terms_of(price="12"), at=trade.at)

    def test_asks_the_limits_of_both_again(self, trade):
        job = trade.job()
        Agent.objects.filter(pk=trade.client.pk).update(status="suspended")

        with pytest.raises(limits.AgentNotActive):
            offers.counter(job.id, by=trade.seller, terms=terms_of(), at=trade.at)

    def test_counts_a_sellers_bond_against_its_token(self, trade):
        job = trade.job()
        token, _ = tokens.mint(trade.seller, scopes=["jobs:write"], max_per_job_units=3_000_000)

        with pytest.raises(spending.SpendingCapExceeded):
            offers.counter(job.id, by=trade.seller, terms=terms_of(), token=token, at=trade.at)

        assert offers.counter(
            job.id, by=trade.seller, terms=terms_of(seller_bond="3"), token=token, at=trade.at
        ).offers_count == 2  # fmt: skip


class TestAgree:
    def test_binds_both_to_the_latest_terms(self, trade):
        job = trade.job()

        job = offers.agree(job.id, by=trade.seller, terms_hash=job.offer.terms_hash, at=trade.at)

        assert (job.state, job.awaiting, job.agreed_terms_hash) == ("agreed", "client", job.offer.terms_hash)
        assert job.deadline_at == trade.later(86_400)

    @pytest.mark.parametrize("author", ["client", "seller"])
    def test_is_refused_to_the_author_of_the_offer(self, trade, author):
        job = trade.job()
        if author == "seller":
            job = offers.counter(job.id, by=trade.seller, terms=terms_of(price="20"), at=trade.at)
        agent = trade.client if author == "client" else trade.seller

        with pytest.raises(TransitionNotAllowed):
            offers.agree(job.id, by=agent, terms_hash=job.offer.terms_hash, at=trade.at)

        job.refresh_from_db()
        assert job.state == "negotiating"

    def test_is_refused_for_an_earlier_offers_terms(self, trade):
        job = trade.job()
        earlier = job.offer.terms_hash
        job = offers.counter(job.id, by=trade.seller, terms=terms_of(price="20"), at=trade.at)

        with pytest.raises(offers.TermsChanged) as refusal:
            offers.agree(job.id, by=trade.client, terms_hash=earlier, at=trade.at)

        assert refusal.value.members == {"terms_hash": job.offer.terms_hash}

    def test_is_refused_from_the_moment_the_offer_lapses(self, trade):
        job = trade.job()

        with pytest.raises(TransitionNotAllowed):
            offers.agree(job.id, by=trade.seller, terms_hash=job.offer.terms_hash, at=job.deadline_at)

        last_moment = job.deadline_at - timedelta(microseconds=1)
        agreed = offers.agree(job.id, by=trade.seller, terms_hash=job.offer.terms_hash, at=last_moment)
        assert agreed.state == "agreed"

    def test_asks_the_limits_of_both_again(self, trade):
        job = trade.job()
        Agent.objects.filter(pk=trade.seller.pk).update(status="leaving")

        with pytest.raises(limits.AgentNotActive):
            offers.agree(job.id, by=trade.seller, terms_hash=job.offer.terms_hash, at=trade.at)

    def test_counts_a_sellers_bond_against_its_token(self, trade):
        job = trade.job()
        token, _ = tokens.mint(trade.seller, scopes=["jobs:write"], max_per_job_units=3_000_000)

        with pytest.raises(spending.SpendingCapExceeded):
            offers.agree(job.id, by=trade.seller, terms_hash=job.offer.terms_hash, token=token, at=trade.at)

    def test_takes_no_bond_without_the_sellers_agreement(self, trade, balance_of):
        job = trade.job()
        job = offers.counter(job.id, by=trade.seller, terms=terms_of(seller_bond="0"), at=trade.at)
        raised = offers.counter(job.id, by=trade.client, terms=terms_of(seller_bond="12"), at=trade.at)

        with pytest.raises(TransitionNotAllowed):
            offers.agree(raised.id, by=trade.client, terms_hash=raised.offer.terms_hash, at=trade.at)
        with pytest.raises(TransitionNotAllowed):
            trade._fund(raised)

        assert balance_of("bond", job) == 0


class TestDecline:
    @pytest.mark.parametrize("who", ["client", "seller"])
    @pytest.mark.parametrize("state", ["negotiating", "agreed"])
    def test_ends_a_job_that_is_not_funded(self, trade, state, who):
        job = trade.job(state)
        agent = trade.client if who == "client" else trade.seller

        job = offers.decline(job.id, by=agent, reason="No longer needed", at=trade.later(5))

        assert (job.state, job.deadline_at, job.awaiting, job.closed_at) == ("cancelled", None, None, trade.later(5))
        assert job.transitions.get(action="decline").note == "No longer needed"

    def test_is_open_to_a_suspended_agent(self, trade):
        job = trade.job()
        Agent.objects.filter(pk=trade.seller.pk).update(status="suspended")

        assert offers.decline(job.id, by=trade.seller, at=trade.at).state == "cancelled"


class TestOffer:
    def test_does_not_change(self, trade):
        job = trade.job()

        with pytest.raises(ProgrammingError), transaction.atomic():
            Offer.objects.filter(job=job).update(terms={})
        with pytest.raises(ProgrammingError), transaction.atomic():
            Offer.objects.filter(job=job).delete()

    def test_has_its_number_once(self, trade):
        job = trade.job()

        with pytest.raises(IntegrityError), transaction.atomic():
            Offer.objects.create(job=job, number=1, author=trade.seller, terms={}, terms_hash="x", expires_at=trade.at)
