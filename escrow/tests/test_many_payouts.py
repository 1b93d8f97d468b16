"""A hundred withdrawals at once, several treasury processes: each paid once, no nonce twice, none left out."""

import secrets

import pytest

from escrow import withdrawals
from escrow.models import RelayTransaction, Withdrawal
from escrow.tests.chain import FINAL, UNITS
from escrow.tests.treasury import entry_for, treasury_tick

MANY, AT_ONCE, PROCESSES = 100, 20, 3


@pytest.mark.django_db(transaction=True)
def test_a_hundred_at_once_are_each_paid_once(chain, rich, race, settings, balance_of):
    settings.WITHDRAWAL_FEE_UNITS = 0
    entries = [entry_for(rich, secrets.token_bytes(20)) for _ in range(MANY)]

    def ask(some):
        return lambda: [withdrawals.request(rich, amount_units=UNITS, entry_id=one.pk) for one in some]

    asked = race(*[ask(entries[number::AT_ONCE]) for number in range(AT_ONCE)])
    assert [outcome for outcome in asked if isinstance(outcome, Exception)] == []
    for _ in range(8):
        outcomes = race(*[treasury_tick] * PROCESSES)
        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        chain.mine(FINAL)
        if not Withdrawal.objects.exclude(state="settled").exists():
            break
    treasury_tick()

    assert Withdrawal.objects.filter(state="settled").count() == MANY
    assert [chain.balance(bytes(entry.address)) for entry in entries] == [UNITS] * MANY
    assert (balance_of("withdrawing", rich), balance_of("available", rich)) == (0, 0)
    assert RelayTransaction.objects.filter(purpose="withdrawal").count() == MANY
    for relayer in {relay.relayer for relay in RelayTransaction.objects.select_related("relayer")}:
        nonces = sorted(relayer.transactions.values_list("nonce", flat=True))
        assert nonces == list(range(nonces[0], relayer.next_nonce))
        assert chain.node.transaction_count(relayer.address) == relayer.next_nonce
    tx_hashes = set(Withdrawal.objects.values_list("tx_hash", flat=True))
    assert len(tx_hashes) == MANY
