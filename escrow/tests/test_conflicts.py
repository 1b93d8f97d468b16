"""Nobody decides about money that may be theirs: every verb of treasurers, by every kind of stake."""

import secrets
from datetime import timedelta

import pytest

from accounts import clock, ids, interests, seams
from escrow import conflicts, platform_payouts, returns, withdrawals
from escrow.models import AddressBookEntry, Deposit, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.people import earn, person
from escrow.tests.test_returns import stray_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _here(settings):
    settings.CHAIN_ID = 31337
    settings.USDC_ADDRESS = "0x" + "aa" * 20
    settings.DEPOSIT_FACTORY_ADDRESS = "0x" + "bb" * 20


@pytest.fixture
def entry(alice):
    then = clock.now() - timedelta(days=2)
    return AddressBookEntry.objects.create(
        id=ids.uuid7(), agent=alice, address=secrets.token_bytes(20), created_at=then, usable_at=then
    )


@pytest.fixture
def stray(entry) -> Deposit:
    """Nobody's deposit, sent from an address that alice is paid at."""
    return stray_of(entry.address)


@pytest.fixture
def earned(db):
    earn(("fees", "platform:0", 100 * UNITS))


@pytest.fixture
def held(request, alice, credit, entry):
    """Make a held withdrawal that concerns alice."""

    def make(what: str) -> Withdrawal:
        other = person(f"other-{what}")
        match what:
            case "payout":
                credit(alice, 3_000 * UNITS)
                return withdrawals.request(alice, amount_units=2_000 * UNITS, entry_id=entry.pk)
            case "income":
                request.getfixturevalue("earned")
                return platform_payouts.request(by=other, amount_units=60 * UNITS, address=entry.address, note="rent")
        return returns.request(request.getfixturevalue("stray").pk, by=other, note="sent by mistake")

    return make


def owns(user, agent, monkeypatch):
    agent.owner = user
    agent.save(update_fields=["owner"])


def has_a_stake(user, agent, monkeypatch):
    """As the apps above say it: having traded with it, for one."""

    def said(person, agents):
        return "An agent of yours has traded with it." if person == user and agent in agents else None

    monkeypatch.setattr(seams.interests, "_functions", [said])


STAKES = [(owns, conflicts.OwnWithdrawal), (has_a_stake, interests.ConflictOfInterest)]


@pytest.mark.parametrize(("comes_by", "refusal"), STAKES)
class TestWithAStake:
    @pytest.mark.parametrize("what", ["payout", "income", "return"])
    @pytest.mark.parametrize("verb", [withdrawals.approve, withdrawals.reject])
    def test_nobody_approves_or_rejects(self, held, alice, monkeypatch, comes_by, refusal, what, verb):
        withdrawal, tina = held(what), person("tina")
        comes_by(tina, alice, monkeypatch)

        with pytest.raises(refusal):
            verb(withdrawal.pk, by=tina, revision=withdrawal.revision, reason="it is fine")

        assert withdrawals.lock(withdrawal.pk).state == Withdrawal.State.HELD

    def test_nobody_asks_for_income(self, earned, entry, alice, monkeypatch, comes_by, refusal):
        tina = person("tina")
        comes_by(tina, alice, monkeypatch)

        with pytest.raises(refusal):
            platform_payouts.request(by=tina, amount_units=60 * UNITS, address=entry.address, note="rent")

    def test_nobody_asks_for_a_return(self, stray, alice, monkeypatch, comes_by, refusal):
        tina = person("tina")
        comes_by(tina, alice, monkeypatch)

        with pytest.raises(refusal):
            returns.request(stray.pk, by=tina, note="sent by mistake")


class TestWithoutAStake:
    @pytest.mark.parametrize("what", ["payout", "income", "return"])
    def test_it_goes(self, held, bob, monkeypatch, what):
        withdrawal, tina = held(what), person("tina")
        owns(tina, bob, monkeypatch)
        has_a_stake(tina, bob, monkeypatch)

        withdrawals.approve(withdrawal.pk, by=tina, revision=withdrawal.revision)

        assert withdrawals.lock(withdrawal.pk).state == Withdrawal.State.REQUESTED
