import pytest
from django.db import transaction

from accounts import ids
from escrow import holds, ledger
from escrow.holds import Closing
from escrow.ledger import Move

pytestmark = pytest.mark.django_db


@pytest.fixture
def key():
    return f"job:{ids.uuid7()}"


@pytest.fixture(autouse=True)
def _nothing_stays_held(key, noon):
    """No live job answers for what a test leaves in the hold and the bond, and the books would say so."""
    yield
    kinds = ["hold", "bond", "dispute_deposit"]
    left = [Move(kind, key, -units) for kind, units in ledger.balances(key, kinds).items() if units]
    if left:
        moves = [*left, Move("custody", "chain:31337", -sum(move.amount_units for move in left))]
        ledger.post(f"{key}:left", kind="test", moves=moves, at=noon)


@pytest.fixture
def funded(key, alice, bob, credit, noon):
    """Alice hires Bob for 10 with a bond of 2; she has 5 left, he 1."""
    credit(alice, 15_000_000)
    credit(bob, 3_000_000)
    holds.fund(key, client_id=alice.id, seller_id=bob.id, price_units=10_000_000, bond_units=2_000_000, at=noon)
    return key


@pytest.fixture
def closing(key, alice, bob):
    def closing(**options):
        usual = {
            "key": key,
            "client_id": alice.id,
            "seller_id": bob.id,
            "price_units": 10_000_000,
            "bond_units": 2_000_000,
            "seller_units": 10_000_000,
            "fee_bps": 100,
            "bond_to": "seller",
        }
        return Closing(**usual | options)

    return closing


class TestFund:
    def test_takes_the_price_and_the_bond(self, funded, alice, bob, balance_of):
        assert (balance_of("available", alice), balance_of("available", bob)) == (5_000_000, 1_000_000)
        assert (balance_of("hold", funded), balance_of("bond", funded)) == (10_000_000, 2_000_000)

    def test_without_a_bond_the_seller_needs_nothing(self, key, alice, bob, credit, balance_of, noon):
        credit(alice, 10_000)

        holds.fund(key, client_id=alice.id, seller_id=bob.id, price_units=10_000, bond_units=0, at=noon)

        assert (balance_of("hold", key), balance_of("bond", key)) == (10_000, 0)

    def test_happens_once(self, funded, alice, bob, balance_of, noon):
        again = holds.fund(
            funded, client_id=alice.id, seller_id=bob.id, price_units=10_000_000, bond_units=2_000_000, at=noon
        )

        assert again.replayed
        assert balance_of("hold", funded) == 10_000_000

    def test_tells_the_client_what_is_missing(self, key, alice, bob, credit, noon):
        credit(alice, 9_000_000)

        with pytest.raises(ledger.InsufficientFunds) as refusal, transaction.atomic():
            holds.fund(key, client_id=alice.id, seller_id=bob.id, price_units=10_000_000, bond_units=1, at=noon)

        assert refusal.value.short_by_units == 1_000_000

    def test_does_not_tell_what_the_seller_is_missing(self, key, alice, bob, credit, noon):
        credit(alice, 10_000_000)
        credit(bob, 1_999_999)

        with pytest.raises(holds.BondUnavailable) as refusal, transaction.atomic():
            holds.fund(key, client_id=alice.id, seller_id=bob.id, price_units=10_000_000, bond_units=2_000_000, at=noon)

        assert (refusal.value.status, refusal.value.code) == (409, "bond_unavailable")
        assert refusal.value.members == {}
        assert "000001" not in refusal.value.detail


class TestClose:
    def test_pays_the_seller_less_the_fee_and_returns_the_bond(self, funded, closing, alice, bob, balance_of, noon):
        holds.close(closing(), kind="job.approve", at=noon)

        assert balance_of("available", bob) == 1_000_000 + 9_900_000 + 2_000_000
        assert balance_of("available", alice) == 5_000_000
        assert balance_of("fees") == 100_000
        assert (balance_of("hold", funded), balance_of("bond", funded)) == (0, 0)

    def test_gives_everything_to_the_client(self, funded, closing, alice, bob, balance_of, noon):
        holds.close(closing(seller_units=0, bond_to="client"), kind="job.fail", at=noon)

        assert balance_of("available", alice) == 5_000_000 + 10_000_000 + 2_000_000
        assert balance_of("available", bob) == 1_000_000
        assert balance_of("fees") == 0

    def test_takes_a_fee_on_the_sellers_share_alone(self, funded, closing, alice, bob, balance_of, noon):
        holds.close(closing(seller_units=3_333_333), kind="job.settle", at=noon)

        assert balance_of("fees") == 33_333
        assert balance_of("available", bob) == 1_000_000 + 3_300_000 + 2_000_000
        assert balance_of("available", alice) == 5_000_000 + 6_666_667

    def test_posts_exactly_what_closing_moves_says(self, funded, closing, noon):
        ending = closing(seller_units=5_000_000, bond_to="client")

        with ledger.recording() as posted:
            holds.close(ending, kind="job.resolve", at=noon)

        assert posted == holds.closing_moves(ending)

    def test_carries_the_deposits_of_a_dispute_in_the_same_transfer(
        self, funded, closing, alice, bob, key, balance_of, noon
    ):
        held_units = holds.take_deposit(key, agent_id=alice.id, wanted_units=1_000_000, at=noon)
        extra = holds.deposit_moves(key, held_units, to=("available", str(bob.id)))

        holds.close(closing(extra=tuple(extra)), kind="job.resolve", at=noon)

        assert balance_of("available", bob) == 1_000_000 + 9_900_000 + 2_000_000 + 1_000_000
        assert balance_of("dispute_deposit", key) == 0

    def test_happens_once(self, funded, closing, bob, balance_of, noon):
        holds.close(closing(), kind="job.approve", at=noon)

        assert holds.close(closing(), kind="job.approve", at=noon).replayed
        assert balance_of("available", bob) == 12_900_000

    def test_never_a_refund_beside_a_payout(self, funded, closing, noon):
        holds.close(closing(), kind="job.approve", at=noon)

        with pytest.raises(ledger.ReferenceReused), transaction.atomic():
            holds.close(closing(seller_units=0), kind="job.fail", at=noon)

    @pytest.mark.parametrize("seller_units", [-1, 10_000_001])
    def test_a_share_outside_the_price_is_our_bug(self, closing, seller_units):
        with pytest.raises(ValueError, match="not within the price"):
            closing(seller_units=seller_units)


class TestSplitAndFee:
    @pytest.mark.parametrize(
        ("amount", "bps", "share"),
        [(10_001, 5_000, 5_000), (1, 9_999, 0), (7, 10_000, 7), (7, 0, 0), (10**12, 1, 10**8)],
    )
    def test_floors(self, amount, bps, share):
        assert holds.split(amount, bps) == share
        assert holds.fee(amount, bps) == share


class TestTakeDeposit:
    def test_takes_what_was_wanted(self, key, alice, credit, balance_of, noon):
        credit(alice, 5_000_000)

        assert holds.take_deposit(key, agent_id=alice.id, wanted_units=1_000_000, at=noon) == 1_000_000
        assert (balance_of("available", alice), balance_of("dispute_deposit", key)) == (4_000_000, 1_000_000)

    @pytest.mark.parametrize("available", [0, 400_000])
    def test_takes_no_more_than_is_there(self, key, alice, credit, balance_of, noon, available):
        if available:
            credit(alice, available)

        assert holds.take_deposit(key, agent_id=alice.id, wanted_units=1_000_000, at=noon) == available
        assert balance_of("available", alice) == 0

    def test_answers_the_first_taking_again(self, key, alice, credit, balance_of, noon):
        credit(alice, 700_000)
        holds.take_deposit(key, agent_id=alice.id, wanted_units=1_000_000, at=noon)
        credit(alice, 700_000)

        assert holds.take_deposit(key, agent_id=alice.id, wanted_units=1_000_000, at=noon) == 700_000
        assert balance_of("available", alice) == 700_000

    def test_nothing_wanted_takes_nothing(self, key, alice, credit, noon):
        credit(alice, 700_000)

        assert holds.take_deposit(key, agent_id=alice.id, wanted_units=0, at=noon) == 0
        assert holds.deposit_moves(key, 0, to=("penalties", "platform")) == []


@pytest.mark.django_db(transaction=True)
class TestTakeDepositAtOnce:
    def test_many_deposits_of_one_agent_never_take_more_than_is_there(self, race, alice, credit, noon):
        credit(alice, 2_500_000)

        held = race(
            *[
                lambda n=n: holds.take_deposit(
                    f"dispute:{n}:opening", agent_id=alice.id, wanted_units=1_000_000, at=noon
                )
                for n in range(12)
            ]
        )

        assert sorted(held) == [0] * 9 + [500_000, 1_000_000, 1_000_000]

    def test_one_deposit_is_taken_once(self, race, alice, credit, balance_of, noon):
        credit(alice, 2_500_000)

        held = race(
            *[
                lambda: holds.take_deposit("dispute:1:opening", agent_id=alice.id, wanted_units=1_000_000, at=noon)
                for _ in range(12)
            ]
        )

        assert held == [1_000_000] * 12
        assert balance_of("available", alice) == 1_500_000
