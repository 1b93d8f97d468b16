"""The books of withdrawals see what is wrong with each sort of them, whoever's money it is."""

import secrets

import pytest
from django.db import connection, transaction

from accounts import clock, ids
from escrow import books, ledger, platform_payouts, withdrawal_moves
from escrow.ledger import Move
from escrow.models import Outflow, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.people import CUSTODY, earn, person

WITHDRAWING = "withdrawing is what open withdrawals hold"
ENDS = "each withdrawal is open, paid, or given back"


@pytest.fixture(autouse=True)
def _here(settings):
    settings.CHAIN_ID = 31337
    settings.USDC_ADDRESS = "0x" + "aa" * 20
    settings.DEPOSIT_FACTORY_ADDRESS = "0x" + "bb" * 20


@pytest.fixture(autouse=True)
def _rolled_back(db):
    """What is made wrong here is gone before the books are checked after the test."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def wrong() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return {mismatch.invariant for mismatch in books.check(full=True)}


def internal(**changed) -> Withdrawal:
    return Withdrawal.objects.create(
        **{
            "owner": "internal",
            "source": b"\x01" * 20,
            "asked_by": person(f"asker-{secrets.token_hex(3)}"),
            "chain_id": 31337,
            "amount_units": 5 * UNITS,
            "address": b"\x02" * 20,
            "state": "requested",
            "requested_at": clock.now(),
            **changed,
        }
    )


def recognised(agent) -> tuple[Withdrawal, Outflow]:
    """A payout found on the chain: its row and its log, nothing posted yet."""
    at, tx_hash, block_hash = clock.now(), secrets.token_bytes(32), secrets.token_bytes(32)
    withdrawal = Withdrawal.objects.create(
        agent=agent,
        chain_id=31337,
        amount_units=5 * UNITS,
        address=b"\x02" * 20,
        state="recognised",
        requested_at=at,
        closed_at=at,
        tx_hash=tx_hash,
        block_number=7,
        block_hash=block_hash,
    )
    outflow = Outflow.objects.create(
        chain_id=31337,
        tx_hash=tx_hash,
        log_index=3,
        block_number=7,
        block_hash=block_hash,
        sender=b"\x01" * 20,
        receiver=b"\x02" * 20,
        amount_units=5 * UNITS,
        explanation="payout",
        withdrawal=withdrawal,
        seen_at=at,
        explained_at=at,
    )
    return withdrawal, outflow


class TestPlatform:
    @pytest.fixture
    def asked(self):
        earn(("fees", "platform:3", 10 * UNITS))
        return platform_payouts.request(
            by=person("tina"), amount_units=4 * UNITS, address=secrets.token_bytes(20), note="rent"
        )

    def test_open_it_is_in_withdrawing(self, asked):
        assert wrong() == set()

        moves = [Move("withdrawing", "platform", -UNITS), Move("fees", "platform:3", UNITS)]
        ledger.post("test:stray", kind="test", moves=moves, at=clock.now())

        assert wrong() == {WITHDRAWING}

    def test_ended_without_its_money_back(self, asked):
        Withdrawal.objects.filter(pk=asked.pk).update(state="cancelled", closed_at=clock.now())

        assert wrong() == {WITHDRAWING, ENDS}

    def test_given_back_while_it_is_open(self, asked):
        reference = withdrawal_moves.reference(asked, "refund")
        ledger.post(reference, kind="test", moves=withdrawal_moves.given_back(asked), at=clock.now())

        assert wrong() == {WITHDRAWING, ENDS}


class TestInternal:
    def test_holds_nothing_whatever_its_state(self):
        internal()
        internal(state="cancelled", closed_at=clock.now())

        assert wrong() == set()

    def test_that_posted_something_is_wrong(self):
        withdrawal = internal()

        moves = [Move(*CUSTODY, -UNITS), Move("fees", "platform", UNITS)]
        ledger.post(withdrawal_moves.reference(withdrawal, "settle"), kind="test", moves=moves, at=clock.now())

        assert wrong() == {ENDS}


class TestRecognised:
    def debit(self, agent, outflow, reference=None):
        reference = reference or f"recognised:31337:{outflow.tx_hash.hex()}:3"
        moves = [Move("available", str(agent.id), -5 * UNITS), Move(*CUSTODY, 5 * UNITS)]
        ledger.post(reference, kind="withdrawal_recognise", moves=moves, at=clock.now())

    def test_is_posted_once_under_its_log(self, alice, credit):
        credit(alice, 20 * UNITS)
        withdrawal, outflow = recognised(alice)
        assert wrong() == {ENDS}

        self.debit(alice, outflow)
        assert wrong() == set()

        self.debit(alice, outflow, withdrawal_moves.reference(withdrawal, "settle"))
        assert wrong() == {ENDS}

    def test_under_anothers_log_is_wrong(self, alice, credit):
        credit(alice, 20 * UNITS)
        _, outflow = recognised(alice)

        self.debit(alice, outflow, f"recognised:31337:{ids.uuid7().hex}:3")

        assert wrong() == {ENDS}
