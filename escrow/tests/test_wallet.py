import pytest
from django.db import transaction

from accounts import ids
from escrow import ledger, wallet
from escrow.ledger import Move
from escrow.models import Deposit

pytestmark = pytest.mark.django_db


@pytest.fixture
def deposit(alice):
    """A transfer to Alice's address, as a scan would record it."""

    def deposit(units, **fields):
        usual = {
            "chain_id": 31337,
            "tx_hash": ids.uuid7().bytes * 2,
            "log_index": 0,
            "block_number": 7,
            "block_hash": b"\x07" * 32,
            "sender": b"\x01" * 20,
            "receiver": b"\x02" * 20,
            "agent": alice,
            "state": "seen",
        }
        return Deposit.objects.create(amount_units=units, **usual | fields)

    return deposit


class TestOf:
    def test_is_empty_for_who_is_new(self, alice):
        assert wallet.of(alice.id) == wallet.Wallet(0, 0, 0, 0, 0, 0)

    def test_keeps_apart_what_is_free_and_what_is_not(self, alice, bob, credit, noon):
        credit(alice, 10_000_000)
        credit(bob, 1_000_000)
        moves = [
            Move("available", str(alice.id), -5_000_000),
            Move("withdrawing", str(alice.id), 3_000_000),
            Move("stake", str(alice.id), 2_000_000),
        ]
        with transaction.atomic():
            ledger.post("t:1", kind="test", moves=moves, at=noon)
            own = wallet.of(alice.id)
            transaction.set_rollback(True)  # no withdrawal answers for it

        assert (own.available_units, own.withdrawing_units, own.staked_units) == (5_000_000, 3_000_000, 2_000_000)

    def test_counts_deposits_until_they_are_credited(self, alice, bob, deposit, noon):
        deposit(1_500_000)
        deposit(400_000, state="below_minimum")
        credited = deposit(9_000_000, state="credited", posted_to="available", generation=1, credited_at=noon)
        moves = [Move("custody", "chain:31337", -9_000_000), Move("available", str(alice.id), 9_000_000)]
        ledger.post(f"deposit:{credited.id}:credit:1", kind="deposit.credit", moves=moves, at=noon)
        deposit(9_000_000, state="orphaned")
        deposit(9_000_000, agent=bob)

        assert wallet.of(alice.id).pending_deposits_units == 1_900_000


class TestGetWallet:
    def test_answers_every_amount_as_text(self, alice, credit, client_for):
        credit(alice, 12_500_000)

        answer = client_for(alice).get("/wallet")

        assert answer.status_code == 200
        assert answer.json() == {
            "available": "12.500000",
            "withdrawing": "0.000000",
            "staked": "0.000000",
            "held": "0.000000",
            "bonded": "0.000000",
            "pending_deposits": "0.000000",
            "currency": "USDC",
        }

    def test_needs_its_scope(self, alice, client_for):
        answer = client_for(alice, ["jobs:read"]).get("/wallet")

        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")

    def test_needs_a_token(self, client):
        assert client.get("/v1/wallet").status_code == 401
