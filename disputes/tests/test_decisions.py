import pytest

from disputes import cases, decisions
from disputes.decisions import Decision
from disputes.tests.conftest import STATEMENT
from escrow import ledger

pytestmark = pytest.mark.django_db


@pytest.fixture
def poor_case(case_at, job_at, alice, balance_of, noon):
    """Alice's second case, for which she owes 1 USDC and has 0.25."""
    case_at("withdrawn")
    job = job_at("delivered", price=10_000_000)
    rest = balance_of("available", alice) - 250_000
    moves = [ledger.Move("available", str(alice.id), -rest), ledger.Move("custody", "chain:31337", rest)]
    ledger.post("test:spent", kind="withdrawal", moves=moves, at=noon)
    opening = {"reason": "late", "statement": STATEMENT, "requested_seller_bps": 0}
    case = cases.open(job.id, opener=alice, at=noon, **opening)
    assert (case.deposit_due_units, case.deposit_held_units) == (1_000_000, 250_000)
    return case


class TestInWords:
    @pytest.mark.parametrize(
        ("seller_bps", "deposit", "words"),
        [
            (0, "back", "the deposit of 0.250000 USDC back to the client"),
            (0, "other_side", "the deposit of 1.000000 USDC to the seller"),
            (9_500, "penalties", "the deposit of 0.750000 USDC to the platform"),
        ],
    )
    def test_names_what_of_a_deposit_will_move(self, poor_case, seller_bps, deposit, words):
        decision = Decision(seller_bps=seller_bps, bond_to="seller", deposit=deposit)

        assert decisions.in_words(poor_case, poor_case.job, decision).endswith(words)

    def test_is_silent_about_a_deposit_that_nobody_paid(self, case_at):
        case = case_at("awaiting_answer")
        case.deposit_due_units = 1_000_000

        assert "deposit" not in decisions.in_words(case, case.job, Decision(seller_bps=0, bond_to="seller"))
