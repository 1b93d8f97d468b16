import pytest

from disputes.models import Dispute
from escrow import books, ledger

pytestmark = pytest.mark.django_db
DEPOSITS = "a live case holds its deposits, a closed one nothing"


def broken():
    return [(mismatch.expected, mismatch.found) for mismatch in books.check() if mismatch.invariant == DEPOSITS]


@pytest.fixture
def deposited(case_at, job_at, alice, noon):
    """A second case of alice's: the first costs no deposit."""
    case_at("withdrawn")
    return case_at("awaiting_answer", job=job_at("delivered"))


class TestDeposits:
    def test_are_found_missing(self, deposited, alice, noon):
        assert deposited.deposit_held_units == 1_000_000
        moves = [
            ledger.Move("dispute_deposit", deposited.deposit_key, -1_000_000),
            ledger.Move("available", str(alice.id), 1_000_000),
        ]
        ledger.post("theft", kind="test", moves=moves, at=noon)

        assert broken() == [("1000000", "0")]
        back = [move._replace(amount_units=-move.amount_units) for move in moves]
        ledger.post("theft:undone", kind="test", moves=back, at=noon)
        assert broken() == []

    def test_are_found_left_behind(self, case_at, alice, noon):
        case = case_at("settled")
        assert Dispute.objects.get(pk=case.pk).closed_at is not None
        moves = [
            ledger.Move("available", str(alice.id), -7),
            ledger.Move("dispute_deposit", case.deposit_key, 7),
        ]
        ledger.post("stray", kind="test", moves=moves, at=noon)

        assert broken() == [("0", "7")]
        back = [move._replace(amount_units=-move.amount_units) for move in moves]
        ledger.post("stray:undone", kind="test", moves=back, at=noon)


class TestDepositsOfAppeals:
    def test_are_found_missing(self, case_at, alice, noon):
        case = case_at("appealed")  # her second deposit: the first was free
        moves = [
            ledger.Move("dispute_deposit", case.appeal.deposit_key, -1_000_000),
            ledger.Move("available", str(alice.id), 1_000_000),
        ]
        ledger.post("theft", kind="test", moves=moves, at=noon)

        assert broken() == [("1000000", "0")]
        back = [move._replace(amount_units=-move.amount_units) for move in moves]
        ledger.post("theft:undone", kind="test", moves=back, at=noon)
        assert broken() == []

    def test_are_found_where_nobody_appealed(self, case_at, alice, noon):
        case = case_at("ruled")
        moves = [
            ledger.Move("available", str(alice.id), -7),
            ledger.Move("dispute_deposit", f"dispute:{case.pk}:appeal", 7),
        ]
        ledger.post("stray", kind="test", moves=moves, at=noon)

        assert broken() == [("0", "7")]
        back = [move._replace(amount_units=-move.amount_units) for move in moves]
        ledger.post("stray:undone", kind="test", moves=back, at=noon)
