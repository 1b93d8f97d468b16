"""Having traded with an agent is a stake in it, in every verb of staff that asks."""

import secrets
from datetime import timedelta

import pytest

from accounts import clock, ids, interests, staff_limits, suspensions
from accounts.models import Agent, User
from escrow import withdrawals
from escrow.models import AddressBookEntry
from marketplace import offers, terms

pytestmark = pytest.mark.django_db
REASON = "Three reports of fraud in a week."


@pytest.fixture
def root():
    return User.objects.create_superuser("root")


@pytest.fixture
def traded(alice, bob, root, noon):
    """A job of alice's with bob, whose owner works here."""
    Agent.objects.filter(pk=bob.pk).update(owner=root)
    some = terms.read({"price": 10_000_000, "title": "Ten lines", "delivery_seconds": 3_600})
    job = offers.propose(alice, bob, terms=some, at=noon)
    return offers.agree(job.id, by=bob, terms_hash=some.hash, at=noon)


class TestThroughTrade:
    def test_is_found_from_either_side(self, traded, alice, bob, carol, root):
        assert "traded" in interests.found(root, [alice])
        assert "traded" in interests.found(root, [carol, alice])
        Agent.objects.filter(pk=bob.pk).update(owner=None)
        Agent.objects.filter(pk=alice.pk).update(owner=root)
        assert "traded" in interests.found(root, [Agent.objects.get(pk=bob.pk)])

    def test_is_found_whatever_became_of_the_job(self, traded, alice, bob, root, noon):
        offers.decline(traded.id, by=bob, at=noon)

        assert "traded" in interests.found(root, [alice])

    @pytest.mark.parametrize("answer", [None, offers.decline])
    def test_is_not_what_a_stranger_proposes_unasked(self, alice, bob, root, noon, answer):
        Agent.objects.filter(pk=bob.pk).update(owner=root)
        some = terms.read({"price": 10_000_000, "title": "Ten lines", "delivery_seconds": 3_600})

        job = offers.propose(alice, bob, terms=some, at=noon)
        if answer:
            answer(job.id, by=bob, at=noon)

        assert interests.found(root, [alice]) is None
        Agent.objects.filter(pk=bob.pk).update(owner=None)
        Agent.objects.filter(pk=alice.pk).update(owner=root)
        assert "traded" in interests.found(root, [Agent.objects.get(pk=bob.pk)])  # it was alice who asked

    def test_is_what_was_countered(self, alice, bob, root, noon):
        Agent.objects.filter(pk=bob.pk).update(owner=root)
        some, other = (
            terms.read({"price": price, "title": "Ten lines", "delivery_seconds": 3_600})
            for price in (10_000_000, 11_000_000)
        )
        job = offers.propose(alice, bob, terms=some, at=noon)

        offers.counter(job.id, by=bob, terms=other, at=noon)

        assert "traded" in interests.found(root, [alice])

    def test_is_no_others(self, traded, alice, carol, root):
        assert interests.found(root, [carol]) is None
        assert interests.found(User.objects.create_user("pat"), [alice]) is None


class TestVerbs:
    @pytest.mark.parametrize(
        "act",
        [
            lambda agent, by: suspensions.suspend(agent.pk, by=by, reason=REASON),
            lambda agent, by: staff_limits.set_limits(agent.pk, by=by, level=0, reason=REASON),
        ],
        ids=["suspend", "set_limits"],
    )
    def test_are_refused(self, traded, alice, root, act):
        with pytest.raises(interests.ConflictOfInterest):
            act(alice, root)

    def test_reinstating_is_too(self, traded, alice, root):
        suspensions.suspend(alice.pk, by=User.objects.create_superuser("other"), reason=REASON)

        with pytest.raises(interests.ConflictOfInterest):
            suspensions.reinstate(alice.pk, by=root, reason=REASON)

    @pytest.mark.parametrize("verb", [withdrawals.approve, withdrawals.reject])
    def test_payouts_are_too(self, traded, alice, root, credit, settings, verb):
        settings.CHAIN_ID = 31337
        settings.USDC_ADDRESS, settings.DEPOSIT_FACTORY_ADDRESS = "0x" + "aa" * 20, "0x" + "bb" * 20
        credit(alice, 3_000_000_000)
        then = clock.now() - timedelta(days=2)
        entry = AddressBookEntry.objects.create(
            id=ids.uuid7(), agent=alice, address=secrets.token_bytes(20), created_at=then, usable_at=then
        )
        held = withdrawals.request(alice, amount_units=2_000_000_000, entry_id=entry.pk)

        with pytest.raises(interests.ConflictOfInterest):
            verb(held.pk, by=root, revision=held.revision)
