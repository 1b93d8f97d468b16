"""`manage.py check_chain`: each log of ours has its row, each row its log, and the sums agree."""

import pytest
from django.core.management import CommandError, call_command

from accounts import ids
from escrow import deposits, explanations, reconciliation, scans
from escrow.models import Deposit, Outflow
from escrow.tests.chain import UNITS
from escrow.tests.treasury import run

pytestmark = pytest.mark.django_db


@pytest.fixture
def busy(chain, rich, ask, bob, pay_in):
    """Deposits, a sweep and a payout, all of it final, scanned and explained."""
    pay_in(bob, 30 * UNITS)
    ask()
    run(chain)
    chain.finalize()
    scans.scan()
    deposits.credit_due()
    explanations.explain_due()


@pytest.fixture(params=[300, 0], ids=["filtered by the node", "picked out here"])
def few(request, monkeypatch):
    monkeypatch.setattr(reconciliation, "FILTERED", request.param)


def found() -> list[str]:
    return [stray.what for stray in reconciliation.strays(first=0)]


def invented_outflow() -> Outflow:
    row = Outflow.objects.get(explanation="payout")
    row.pk, row.log_index, row.explanation, row.withdrawal, row.nonce = ids.uuid7(), 99, "", None, None
    row.save(force_insert=True)
    return row


class TestStrays:
    def test_are_none_where_all_is_well(self, busy, few):
        assert found() == []
        assert Outflow.objects.count() == 2
        assert Deposit.objects.count() == 2

    def test_are_read_in_parts(self, busy, few, settings):
        settings.CHAIN_SCAN_RANGE = 3

        assert found() == []

    def test_a_deposit_that_no_row_tells_of(self, busy, few):
        row = Deposit.objects.filter(amount_units=30 * UNITS)
        Deposit.objects.filter(pk=row.get().pk).update(block_number=10**6)

        assert found() == ["no deposit tells of it"]

    def test_a_deposit_of_another_amount(self, busy, few):
        Deposit.objects.filter(amount_units=30 * UNITS).update(amount_units=31 * UNITS)

        assert sorted(found()) == ["a deposit whose log is not on the chain", "no deposit tells of it"]

    def test_a_deposit_that_is_marked_as_gone(self, busy, few):
        Deposit.objects.filter(amount_units=30 * UNITS).update(state="orphaned", posted_to="", credited_at=None)

        assert found() == ["no deposit tells of it"]
        Deposit.objects.filter(amount_units=30 * UNITS).update(state="seen")
        deposit = Deposit.objects.get(amount_units=30 * UNITS)
        assert deposit.generation == 1
        Deposit.objects.filter(pk=deposit.pk).update(
            state="credited", posted_to="available", credited_at=deposit.seen_at
        )

    def test_an_outflow_that_no_row_tells_of(self, busy, few, noon):
        Outflow.objects.filter(explanation="payout").update(orphaned_at=noon)

        assert found() == ["no outflow tells of it"]

    def test_an_outflow_whose_log_is_not_there(self, busy, few):
        invented_outflow()

        assert found() == ["an outflow whose log is not on the chain"]

    def test_an_outflow_that_nothing_explains(self, busy, few, chain):
        chain.empty_treasury_of(UNITS)
        chain.finalize()
        scans.scan()

        assert found() == ["nothing explains it"]

    def test_are_not_looked_for_above_what_is_final_and_scanned(self, busy, few, chain):
        chain.empty_treasury_of(UNITS)
        scans.scan()
        assert found() == []

        chain.finalize()
        assert found() == ["nothing explains it"]
        chain.empty_treasury_of(UNITS)
        chain.finalize()
        assert found() == ["nothing explains it"]


class TestCommand:
    def test_ends_well_where_books_and_chain_agree(self, busy, capsys):
        call_command("check_chain")

        said = capsys.readouterr().out
        assert "ok  each transfer of ours from block 0 on" in said
        assert "0.000000 USDC  difference" in said

    def test_exits_with_1_and_names_what_does_not_fit(self, busy, chain, capsys):
        chain.empty_treasury_of(UNITS)
        chain.finalize()
        scans.scan()

        with pytest.raises(CommandError) as refusal:
            call_command("check_chain", from_block=1)

        assert refusal.value.returncode == 1
        said = capsys.readouterr().out
        assert "nothing explains it: 1000000 micro-USDC from 0x" in said
        assert "1.000000 USDC  difference" in said

    def test_starts_where_it_is_told(self, busy, chain, capsys):
        block = invented_outflow().block_number

        with pytest.raises(CommandError):
            call_command("check_chain", from_block=block)
        call_command("check_chain", from_block=block + 1)

        assert f"ok  each transfer of ours from block {block + 1} on" in capsys.readouterr().out

    def test_a_difference_in_sum_alone_is_one(self, busy, credit, alice, capsys):
        credit(alice, 5)

        with pytest.raises(CommandError, match="do not agree"):
            call_command("check_chain")

        assert "0.000005 USDC  difference" in capsys.readouterr().out

    def test_a_chain_that_cannot_be_read_is_no_success(self, busy, settings):
        settings.CHAIN_RPC_URL = "http://127.0.0.1:9"

        with pytest.raises(CommandError, match="cannot be read") as refusal:
            call_command("check_chain")

        assert refusal.value.returncode == 1
