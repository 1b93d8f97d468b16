"""A loss is made good by what the platform earned, no further, and by treasurers alone."""

import pytest

from accounts import clock
from accounts.errors import Invalid, NotAllowed
from escrow import income, ledger, shortfalls
from escrow.ledger import Move
from escrow.tests.chain import UNITS
from escrow.tests.people import earn, person

pytestmark = pytest.mark.django_db


@pytest.fixture
def tina(db):
    return person("tina")


@pytest.fixture
def lost(db):
    """Lose 30 of the platform's USDC on the chain, after it earned 50."""
    earn(("fees", "platform:0", 20 * UNITS), ("penalties", "platform", 30 * UNITS))
    moves = [Move("shortfall", "platform", -30 * UNITS), Move("custody", "chain:31337", 30 * UNITS)]
    ledger.post("recognised:31337:ab:0", kind="outflow_write_off", moves=moves, at=clock.now())


class TestCover:
    def test_takes_it_from_income(self, tina, lost, balance_of):
        shortfalls.cover(amount_units=30 * UNITS, by=tina, note="A key was stolen.")

        assert balance_of("shortfall") == 0
        assert income.units() == 20 * UNITS

    def test_no_more_than_is_lost(self, tina, lost, balance_of):
        with pytest.raises(shortfalls.NotCoverable):
            shortfalls.cover(amount_units=30 * UNITS + 1, by=tina, note="Too much.")

        assert balance_of("shortfall") == -30 * UNITS

    def test_no_more_than_was_earned(self, tina, lost):
        moves = [Move("shortfall", "platform", -90 * UNITS), Move("custody", "chain:31337", 90 * UNITS)]
        ledger.post("recognised:31337:cd:0", kind="outflow_write_off", moves=moves, at=clock.now())

        with pytest.raises(ledger.InsufficientFunds):
            shortfalls.cover(amount_units=60 * UNITS, by=tina, note="More than there is.")

    def test_not_what_an_agent_still_owes(self, tina, lost, alice, monkeypatch):
        monkeypatch.setattr(shortfalls, "coverable_units", lambda: 10 * UNITS)

        with pytest.raises(shortfalls.NotCoverable, match=r"10\.000000 USDC"):
            shortfalls.cover(amount_units=11 * UNITS, by=tina, note="The rest comes by itself.")

    def test_is_for_treasurers_and_says_why(self, tina, lost, django_user_model):
        with pytest.raises(NotAllowed):
            shortfalls.cover(amount_units=UNITS, by=django_user_model.objects.create(username="eve"), note="Mine.")
        with pytest.raises(Invalid):
            shortfalls.cover(amount_units=UNITS, by=tina, note=" ")
        with pytest.raises(Invalid):
            shortfalls.cover(amount_units=0, by=tina, note="Nothing.")


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_no_more_is_covered_than_was_lost(race, balance_of):
    tina = person("tina")
    earn(("fees", "platform:0", 500 * UNITS))
    moves = [Move("shortfall", "platform", -30 * UNITS), Move("custody", "chain:31337", 30 * UNITS)]
    ledger.post("recognised:31337:ab:0", kind="outflow_write_off", moves=moves, at=clock.now())

    outcomes = race(*[lambda: shortfalls.cover(amount_units=30 * UNITS, by=tina, note="A key was stolen.")] * 8)

    assert sum(isinstance(outcome, shortfalls.NotCoverable) for outcome in outcomes) == 7
    assert balance_of("shortfall") == 0
    assert income.units() == 470 * UNITS


def test_what_a_reversal_left_an_agent_owing_is_not_lost_for_good(chain, rich, ask, tina, balance_of):
    from escrow import deposits
    from escrow.models import Deposit
    from escrow.tests.treasury import run

    ask(90 * UNITS)
    run(chain)
    Deposit.objects.update(state=Deposit.State.ORPHANED)
    deposits.reverse_orphaned()
    earn(("fees", "platform:0", 500 * UNITS))
    assert balance_of("shortfall") < 0

    assert shortfalls.coverable_units() == 0
