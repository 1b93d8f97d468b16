"""The alarm clocks of the chain: the right queue, and a node that is away is no error of ours."""

import logging

import pytest
from django.core.management import call_command

from escrow import deposits, tasks, withdrawals
from escrow.models import Deposit, Withdrawal
from escrow.tests.chain import FINAL, UNITS

CHAIN = {
    "scan_deposits": "chain",
    "credit_deposits": "chain",
    "advance_withdrawals": "deadlines",
    "authorize_withdrawals": "treasury",
    "relay_transactions": "treasury",
    "settle_withdrawals": "treasury",
    "sweep_deposits": "treasury",
    "explain_outflows": "chain",
    "recognise_payouts": "chain",
    "watch_treasury": "chain",
}


@pytest.mark.parametrize(("name", "queue"), CHAIN.items())
def test_rings_in_its_queue(name, queue):
    assert getattr(tasks, name).queue == queue


def test_the_bells_alone_bring_a_deposit_in_and_a_payout_out(chain, rich, ask, balance_of):
    withdrawal = ask()

    for _ in range(3):
        for name in CHAIN:
            getattr(tasks, name)()
        chain.mine(FINAL)
    for name in CHAIN:
        getattr(tasks, name)()

    withdrawal.refresh_from_db()
    assert withdrawal.state == "settled"
    assert chain.balance(withdrawal.address) == 40 * UNITS
    assert balance_of("withdrawing", rich) == 0


def test_a_node_that_is_away_is_a_line_in_the_log(chain, rich, ask, settings, caplog):
    ask()
    settings.CHAIN_RPC_URL = "http://127.0.0.1:9"

    with caplog.at_level(logging.WARNING):
        for name in CHAIN:
            getattr(tasks, name)()

    assert any("NodeUnavailable" in record.message for record in caplog.records)
    assert Withdrawal.objects.get().state == "requested"


def test_a_hint_is_looked_up(chain, alice, pay_in):
    tx_hash = pay_in(alice, 5 * UNITS)

    tasks.look_up_deposit(tx_hash.hex())

    assert Deposit.objects.get().tx_hash == tx_hash


def test_rescan_deposits_says_what_it_found(chain, alice, pay_in, capsys):
    pay_in(alice, 5 * UNITS)
    tasks.scan_deposits()

    call_command("rescan_deposits", from_block=0)

    assert "1 transfers" in capsys.readouterr().out
    assert Deposit.objects.count() == 1


def test_verbs_of_nothing_due_do_nothing(chain, treasury_rows):
    assert withdrawals.advance_due() == 0
    assert deposits.credit_due() == 0
