"""Posts at once, with real commits. `post` does not retry, so a deadlock would be seen as an OperationalError here."""

import threading
from collections import Counter

import pytest

from escrow import ledger
from escrow.ledger import Move
from escrow.models import LedgerAccount, Transfer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def deposit(noon):
    def deposit(owner_key, units):
        moves = [Move("custody", "chain:31337", -units), Move("available", owner_key, units)]
        ledger.post(f"deposit:{owner_key}", kind="deposit", moves=moves, at=noon)

    return deposit


@pytest.fixture
def pay(noon):
    def pay(reference, giver, taker, units):
        moves = [Move("available", giver, -units), Move("available", taker, units)]
        return ledger.post(reference, kind="test", moves=moves, at=noon)

    return pay


def kinds_of(outcomes):
    return Counter(type(outcome).__name__ for outcome in outcomes)


class TestOneReference:
    def test_fifty_at_once_make_one_transfer(self, race, deposit, pay):
        deposit("a", 100)

        outcomes = race(*[lambda: pay("t:1", "a", "b", 100)] * 50)

        assert kinds_of(outcomes) == {"Posting": 50}
        assert Counter(posting.replayed for posting in outcomes) == {False: 1, True: 49}
        assert len({posting.transfer_id for posting in outcomes}) == 1
        assert ledger.balance("available", "b") == 100

    def test_of_fifty_with_other_moves_one_wins(self, race, deposit, pay):
        deposit("a", 10_000)

        outcomes = race(*[lambda n=n: pay("t:1", "a", "b", n) for n in range(1, 51)])

        assert kinds_of(outcomes) == {"Posting": 1, "ReferenceReused": 49}
        assert Transfer.objects.filter(reference="t:1").count() == 1

    def test_the_second_of_two_may_post_when_the_first_was_refused(self, race, deposit, pay):
        deposit("a", 10)

        outcomes = race(*[lambda n=n: pay("t:1", "a", "b", 10 if n % 2 else 11) for n in range(20)])

        assert kinds_of(outcomes).keys() <= {"Posting", "InsufficientFunds", "ReferenceReused"}
        assert sum(not posting.replayed for posting in outcomes if isinstance(posting, ledger.Posting)) == 1
        assert ledger.balance("available", "b") == 10


class TestCrossing:
    def test_forty_crossing_transfers_never_deadlock(self, race, deposit, pay):
        deposit("a", 1_000)
        deposit("b", 1_000)

        def there_and_back(position):
            giver, taker = ("a", "b") if position % 2 else ("b", "a")
            for turn in range(25):
                pay(f"t:{position}:{turn}", giver, taker, 1)

        outcomes = race(*[lambda n=n: there_and_back(n) for n in range(40)])

        assert kinds_of(outcomes) == {"NoneType": 40}
        assert ledger.balance("available", "a") == ledger.balance("available", "b") == 1_000

    def test_accounts_that_do_not_exist_yet_are_made_without_deadlock(self, race, noon):
        threads, turns = 12, 40
        together = threading.Barrier(threads, timeout=20)

        def first_seen(position):
            for turn in range(turns):
                moves = [Move("available", f"{turn}:{name}", 1) for name in "abcdef"]
                moves.append(Move("custody", f"chain:{position}", -6))
                together.wait()  # or the first would make the accounts of all
                ledger.post(f"t:{position}:{turn}", kind="test", moves=moves[:: 1 if position % 2 else -1], at=noon)

        outcomes = race(*[lambda n=n: first_seen(n) for n in range(threads)])

        assert kinds_of(outcomes) == {"NoneType": threads}
        assert LedgerAccount.objects.filter(kind="available").count() == turns * 6
        assert ledger.balance("available", "0:a") == threads


class TestOverdraw:
    def test_what_is_there_is_spent_once(self, race, deposit, pay):
        deposit("a", 100)

        outcomes = race(*[lambda n=n: pay(f"t:{n}", "a", f"b:{n}", 10) for n in range(40)])

        assert kinds_of(outcomes) == {"Posting": 10, "InsufficientFunds": 30}
        assert ledger.balance("available", "a") == 0
