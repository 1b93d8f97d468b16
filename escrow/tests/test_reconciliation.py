"""Ledger and chain agree at a finalized block, whatever is under way."""

from escrow import books, deposits, ledger, reconciliation, scans
from escrow.ledger import Move
from escrow.models import Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.treasury import run, treasury_tick


class TestCompare:
    def test_agrees_at_every_step_of_a_deposit_and_a_payout(self, chain, rich, ask, bob, pay_in):
        differences = []

        def look() -> None:
            differences.append(reconciliation.compare().difference_units)

        look()
        ask()
        for _ in range(3):
            treasury_tick()
            look()
            chain.mine(5)
            look()
        pay_in(bob, 30 * UNITS)
        for _ in range(3):
            chain.mine(4)
            scans.scan()
            look()
            deposits.credit_due()
            look()

        assert differences == [0] * len(differences)
        assert set(Withdrawal.objects.values_list("state", flat=True)) == {"settled"}

    def test_sees_money_that_left_by_itself(self, chain, rich):
        chain.empty_treasury_of(30 * UNITS)
        chain.finalize()
        scans.scan()

        assert reconciliation.compare().difference_units == 30 * UNITS

    def test_sees_balance_that_no_deposit_brought(self, chain, rich, credit):
        credit(rich, 5 * UNITS)

        assert reconciliation.compare().difference_units == 5 * UNITS


class TestInvariants:
    def wrong(self) -> set[str]:
        return {mismatch.invariant for mismatch in books.check(full=True)}

    def test_see_money_in_withdrawing_that_no_withdrawal_holds(self, chain, rich, noon):
        moves = [Move("available", str(rich.id), -UNITS), Move("withdrawing", str(rich.id), UNITS)]
        ledger.post("test:stray", kind="test", moves=moves, at=noon)

        assert self.wrong() == {"withdrawing is what open withdrawals hold"}
        back = [Move("available", str(rich.id), UNITS), Move("withdrawing", str(rich.id), -UNITS)]
        ledger.post("test:stray:back", kind="test", moves=back, at=noon)

    def test_see_a_settled_withdrawal_that_was_refunded_too(self, chain, rich, ask, noon):
        withdrawal = ask()
        run(chain)
        moves = [Move("available", str(rich.id), UNITS), Move("custody", "chain:31337", -UNITS)]

        from django.db import connection, transaction

        with transaction.atomic():
            ledger.post(f"withdrawal:{withdrawal.id}:refund", kind="withdrawal_refund", moves=moves, at=noon)
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            assert self.wrong() == {"each withdrawal is open, paid, or given back"}
            transaction.set_rollback(True)

    def test_see_a_deposit_posted_more_often_than_its_row_says(self, chain, rich, noon):
        from django.db import transaction

        from escrow.models import Deposit

        with transaction.atomic():
            Deposit.objects.update(generation=2)
            assert self.wrong() == {"each deposit is posted once a generation"}
            transaction.set_rollback(True)
