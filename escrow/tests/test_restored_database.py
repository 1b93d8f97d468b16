"""
A database restored from a backup that is five minutes old: what was paid since is recognised from the chain, once.
"""

import secrets

import pytest

from accounts import alerts, pauses
from accounts.errors import Paused
from accounts.models import User
from escrow import explanations, guard, recognition, reconciliation, scans, withdrawals
from escrow.models import Authorization, Outflow, Relayer, RelayTransaction, Withdrawal
from escrow.tests.chain import FINAL, UNITS
from escrow.tests.forgotten import Backup
from escrow.tests.treasury import entry_for, run, treasury_tick

pytestmark = pytest.mark.django_db(transaction=True)
FEE = 500_000


@pytest.fixture
def treasurer():
    return User.objects.create_superuser(username="tessa", email="tessa@example.org", password="secret")


@pytest.fixture
def forget(chain, rich):
    """Payouts of 2 USDC on the chain, and a database that has never heard of them but as asked for, or not at all."""

    def forget(*, asked_before: int, asked_after: int) -> list[bytes]:
        entries = [entry_for(rich, secrets.token_bytes(20)) for _ in range(asked_before + asked_after)]
        for entry in entries[:asked_before]:
            withdrawals.request(rich, amount_units=2 * UNITS, entry_id=entry.pk)
        backup = Backup()
        for entry in entries[asked_before:]:
            withdrawals.request(rich, amount_units=2 * UNITS, entry_id=entry.pk)
        run(chain, 2)
        assert set(Withdrawal.objects.values_list("state", flat=True)) == {"settled"}
        backup.restore()
        assert Withdrawal.objects.filter(state="requested").count() == asked_before
        return [entry.address for entry in entries]

    return forget


@pytest.fixture
def forgotten(forget):
    return forget(asked_before=2, asked_after=1)


def all_paid_once(chain, receivers) -> bool:
    return [chain.balance(address) for address in receivers] == [2 * UNITS] * len(receivers)


def test_twenty_payouts_five_of_them_asked_for_after_the_backup(chain, rich, forget, balance_of, treasurer):
    receivers = forget(asked_before=15, asked_after=5)

    for _ in range(2):
        treasury_tick()
        chain.mine(FINAL)
    assert not Authorization.objects.exists()
    assert pauses.is_paused("withdrawals")
    assert recognition.recognise_due() == 20

    assert set(Withdrawal.objects.values_list("state", flat=True)) == {"recognised"}
    assert Withdrawal.objects.filter(fee_units=FEE).count() == 15
    assert Withdrawal.objects.filter(fee_units=0, agent=rich).count() == 5
    assert {row.address for row in Withdrawal.objects.all()} == set(receivers)
    assert balance_of("withdrawing", rich) == 0
    assert balance_of("fees") == 15 * FEE
    assert balance_of("available", rich) == 100 * UNITS - 20 * 2 * UNITS - 15 * FEE
    assert balance_of("shortfall") == 0
    assert reconciliation.compare().difference_units == 0
    guard.resume("withdrawals", by=treasurer, reason="all recognised")
    run(chain, 1)
    assert all_paid_once(chain, receivers)


class TestARestoredDatabase:
    def test_signs_nothing_and_pays_nothing_twice(self, chain, forgotten):
        for _ in range(3):
            treasury_tick()
            chain.mine(FINAL)

        assert not Authorization.objects.exists()
        assert not RelayTransaction.objects.filter(purpose="withdrawal").exists()
        assert all_paid_once(chain, forgotten)
        assert alerts.is_sounding("unknown_authorization")
        assert pauses.is_paused("withdrawals")

    def test_explains_every_transfer_that_left(self, chain, forgotten):
        scans.scan()
        explanations.explain_due()
        assert Outflow.objects.count() == 4  # and a sweep
        assert alerts.is_sounding("unexplained_outflow")

        recognition.recognise_due()
        explanations.explain_due()

        assert Outflow.objects.filter(explanation="payout").count() == 3
        assert not explanations.unexplained().exists()
        assert not alerts.is_sounding("unexplained_outflow")

    def test_goes_on_after_a_treasurer_has_resumed(self, chain, rich, forgotten, treasurer):
        treasury_tick()
        with pytest.raises(pauses.StillUnsafe):
            guard.resume("withdrawals", by=treasurer, reason="looks fine")
        recognition.recognise_due()
        assert not alerts.is_sounding("unknown_authorization")
        assert not alerts.is_sounding("unknown_relayer_nonce")
        assert pauses.is_paused("withdrawals")

        guard.resume("withdrawals", by=treasurer, reason="all recognised")
        again = withdrawals.request(rich, amount_units=3 * UNITS, entry_id=entry_for(rich).pk)
        run(chain)

        again.refresh_from_db()
        assert again.state == "settled"
        assert chain.balance(again.address) == 3 * UNITS
        assert all_paid_once(chain, forgotten)
        for relayer in Relayer.objects.all():
            assert chain.node.transaction_count(relayer.address) == relayer.next_nonce
        assert not RelayTransaction.objects.filter(state__in=RelayTransaction.OPEN).exists()

    def test_gives_nothing_back_until_a_treasurer_has_resumed(self, chain, rich, forgotten, treasurer):
        treasury_tick()
        waiting = Withdrawal.objects.filter(state="requested").first()

        with pytest.raises(Paused):
            withdrawals.cancel(waiting.pk, agent=rich)
        waiting.refresh_from_db()
        assert waiting.state == "requested"

        recognition.recognise_due()
        assert guard.frozen()
        guard.resume("withdrawals", by=treasurer, reason="all recognised")
        assert not guard.frozen()

    def test_recognises_what_was_called_off_in_the_restored_past(self, chain, rich, forgotten, balance_of):
        called_off = Withdrawal.objects.filter(state="requested").first()
        withdrawals.cancel(called_off.pk, agent=rich)  # before anybody has asked the chain

        assert recognition.recognise_due() == 3

        assert balance_of("available", rich) == 100 * UNITS - 3 * 2 * UNITS - FEE
        assert reconciliation.compare().difference_units == 0
        called_off.refresh_from_db()
        assert called_off.state == "cancelled"

    def test_eight_recognisers_at_once_post_each_payout_once(self, chain, rich, forgotten, race, balance_of):
        outcomes = race(*[recognition.recognise_due] * 8)
        recognition.recognise_due()

        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        assert Withdrawal.objects.filter(state="recognised").count() == 3
        assert Outflow.objects.filter(explanation="payout").count() == 3
        assert balance_of("available", rich) == 100 * UNITS - 3 * 2 * UNITS - 2 * FEE
        assert reconciliation.compare().difference_units == 0
