"""What an agent cannot withdraw, over HTTP: the refusal that is specified, and nothing held by it."""

from datetime import timedelta

import pytest

from accounts import alerts, clock, pauses
from accounts.models import User
from escrow import deposit_addresses, treasury
from escrow.chain import addresses, forwarders
from escrow.models import AddressBookEntry, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.test_chain_api import confirmation, key  # noqa: F401  fixtures
from escrow.tests.treasury import entry_for

COLD = b"\xc0" * 20


@pytest.fixture(autouse=True)
def _cold(settings):
    settings.TREASURY_COLD_ADDRESS = addresses.to_text(COLD)


@pytest.fixture
def agent(chain, treasury_rows, alice, client_for, credit):
    credit(alice, 100 * UNITS)
    return client_for(alice)


def unpayable(chain, bob) -> dict[str, bytes]:
    return {
        "zero": bytes(20),
        "token": chain.usdc,
        "factory": chain.factory,
        "forwarder": forwarders.implementation_of(chain.factory),
        "treasury": chain.treasury,
        "earlier treasury": treasury.register(b"\x7e" * 20, chain_id=chain.chain_id).address,
        "cold": COLD,
        "deposit address": deposit_addresses.of(bob).address,
    }


NAMES = ["zero", "token", "factory", "forwarder", "treasury", "earlier treasury", "cold", "deposit address"]


def ask(agent, entry, amount="40", **more):
    entry_id = entry.pk if isinstance(entry, AddressBookEntry) else entry
    return agent.post("/wallet/withdrawals", {"amount": amount, "address_id": str(entry_id)}, **more)


@pytest.fixture
def nothing_is_held(chain, alice, balance_of):
    """Every refusal of this file leaves no row and no balance behind."""
    yield
    assert not Withdrawal.objects.exists()
    assert (balance_of("withdrawing", alice), balance_of("available", alice)) == (0, 100 * UNITS)


@pytest.mark.usefixtures("nothing_is_held")
class TestRefused:
    @pytest.mark.parametrize("name", NAMES)
    def test_address_that_cannot_be_paid(self, agent, chain, alice, bob, name):
        """It stands in the book all the same: written down before it was ours."""
        entry = entry_for(alice, unpayable(chain, bob)[name])

        answer = ask(agent, entry)

        [error] = answer.json()["errors"]
        assert (answer.status_code, error["pointer"], error["code"]) == (400, "/address_id", "refused_address")

    @pytest.mark.parametrize("name", NAMES)
    def test_address_that_cannot_be_paid_is_not_written_down(self, agent, chain, bob, confirmation, name):  # noqa: F811
        text = addresses.to_text(unpayable(chain, bob)[name])

        answer = agent.post("/wallet/addresses", confirmation(address=text))

        [error] = answer.json()["errors"]
        assert (answer.status_code, error["pointer"], error["code"]) == (400, "/address", "refused_address")
        assert not AddressBookEntry.objects.exists()

    def test_address_with_a_bad_checksum(self, agent, confirmation):  # noqa: F811
        right = addresses.to_text(b"\xab\xcd" * 10)

        answer = agent.post("/wallet/addresses", confirmation(address="0x" + right[2:].swapcase()))

        [error] = answer.json()["errors"]
        assert (answer.status_code, error["pointer"], error["code"]) == (400, "/address", "invalid_address")

    def test_entry_that_is_unknown(self, agent):
        answer = ask(agent, "0199c6a0-0000-7000-8000-000000000000")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_entry_of_another_agent(self, agent, bob):
        answer = ask(agent, entry_for(bob))

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_entry_that_was_removed(self, agent, alice):
        entry = entry_for(alice)
        assert agent.delete(f"/wallet/addresses/{entry.pk}").status_code == 204

        answer = ask(agent, entry)

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_entry_that_cools(self, agent, alice):
        entry = entry_for(alice)
        AddressBookEntry.objects.update(usable_at=clock.now() + timedelta(hours=1))

        answer = ask(agent, entry)

        assert (answer.status_code, answer.json()["code"]) == (409, "address_cooling")

    @pytest.mark.parametrize("amount", ["0.999999", "0", "-5"])
    def test_amount_below_the_minimum(self, agent, alice, amount):
        answer = ask(agent, entry_for(alice), amount)

        [error] = answer.json()["errors"]
        assert (answer.status_code, error["pointer"]) == (400, "/amount")

    def test_amount_above_the_balance_with_its_fee(self, agent, alice):
        answer = ask(agent, entry_for(alice), "99.500001")

        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_funds")
        assert answer.json()["short_by"] == "0.000001"


class TestPaused:
    def test_nothing_is_taken_and_the_same_key_goes_through_afterwards(self, agent, alice, balance_of):
        entry, operator = entry_for(alice), User.objects.create(username="operator", is_superuser=True)
        pauses.pause("withdrawals", reason="looking at something", cause="test")

        answer = ask(agent, entry, key="once")

        assert (answer.status_code, answer.json()["code"], answer.json()["flag"]) == (503, "paused", "withdrawals")
        assert not Withdrawal.objects.exists()
        assert balance_of("withdrawing", alice) == 0
        pauses.resume("withdrawals", by=operator, reason="looked")
        assert ask(agent, entry, key="once").status_code == 201

    def test_what_was_asked_for_before_can_still_be_called_off(self, agent, alice, balance_of):
        asked = ask(agent, entry_for(alice)).json()
        pauses.pause("withdrawals", reason="looking at something", cause="test")

        answer = agent.delete(f"/wallet/withdrawals/{asked['id']}")

        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert balance_of("available", alice) == 100 * UNITS

    def test_but_not_while_the_chain_shows_payouts_that_we_forgot(self, agent, alice, balance_of):
        asked = ask(agent, entry_for(alice)).json()
        alerts.sound("unknown_authorization")

        answer = agent.delete(f"/wallet/withdrawals/{asked['id']}")

        assert (answer.status_code, answer.json()["code"]) == (503, "paused")
        assert balance_of("withdrawing", alice) == 40 * UNITS + 500_000


class TestHeld:
    @pytest.mark.parametrize(
        ("limit", "reason"),
        [
            ("WITHDRAWAL_APPROVAL_THRESHOLD_UNITS", "amount"),
            ("WITHDRAWAL_DAILY_LIMIT_UNITS", "agent_limit"),
            ("WITHDRAWAL_PLATFORM_DAILY_LIMIT_UNITS", "platform_limit"),
        ],
    )
    def test_above_a_limit_it_is_taken_and_waits_for_a_treasurer(self, agent, alice, settings, limit, reason):
        setattr(settings, limit, 40 * UNITS - 1)

        answer = ask(agent, entry_for(alice))

        assert answer.status_code == 201
        assert (answer.json()["state"], answer.json()["held_for"]) == ("held", [reason])
        assert answer.json()["approve_by"] is not None


def test_no_spelling_of_an_address_gets_round_the_refusals(agent, chain, confirmation):  # noqa: F811
    for text in (chain.deployed["treasury"].lower(), "0x" + chain.deployed["treasury"][2:].upper()):
        answer = agent.post("/wallet/addresses", confirmation(address=text))
        assert answer.json()["errors"][0]["code"] == "refused_address"
    assert not AddressBookEntry.objects.exists()
