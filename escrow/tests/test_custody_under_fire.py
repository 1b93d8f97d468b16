"""Custody is read while everything moves at once: real commits, real blocks, and never a difference."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from accounts.errors import DomainError
from escrow import custody, deposits, reconciliation, scans, sweeps, withdrawals
from escrow.chain import rpc
from escrow.models import RelayTransaction, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.treasury import entry_for, treasury_tick

pytestmark = pytest.mark.django_db(transaction=True)

READINGS = 25
PATIENCE_SECONDS = 120


class Fire:
    """Threads that each do one thing again and again until they are told to stop."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []

    def again(self, verb: Callable[[], Any], *, pause: float) -> None:
        thread = threading.Thread(target=self._run, args=(verb, pause))
        self.threads.append(thread)
        thread.start()

    def _run(self, verb: Callable[[], Any], pause: float) -> None:
        try:
            while not self.over.wait(pause):
                try:
                    verb()
                except (DomainError, rpc.NodeRefused):
                    continue  # not enough money, not enough gas, not yet
                except Exception as error:
                    self.errors.append(error)
                    return
        finally:
            connections.close_all()

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def test_no_difference_while_deposits_payouts_and_sweeps_move(chain, treasury_rows, make_agent, pay_in, settings):
    settings.SWEEP_ABOVE_UNITS = 5 * UNITS
    dice = random.Random(20)
    agents = [make_agent(f"agent{n}") for n in range(4)]
    entries = {agent: entry_for(agent) for agent in agents}
    for agent in agents:
        pay_in(agent, 200 * UNITS)
    chain.finalize()
    scans.scan()
    deposits.credit_due()
    read: list[custody.Custody] = []

    def ask() -> None:
        agent = dice.choice(agents)
        withdrawals.request(agent, amount_units=dice.randint(2, 9) * UNITS, entry_id=entries[agent].pk)

    def compare() -> None:
        read.append(reconciliation.compare())
        read.append(custody.read())

    fire = Fire()
    fire.again(lambda: pay_in(dice.choice(agents), dice.randint(2, 20) * UNITS), pause=0.1)
    fire.again(ask, pause=0.1)
    fire.again(lambda: (scans.scan(), deposits.credit_due()), pause=0.1)
    fire.again(treasury_tick, pause=0.05)
    fire.again(treasury_tick, pause=0.05)
    fire.again(sweeps.sweep_due, pause=0.2)
    fire.again(chain.mine, pause=0.05)
    fire.again(compare, pause=0.01)
    fire.again(compare, pause=0.01)
    for _ in range(PATIENCE_SECONDS * 2):
        if fire.errors or (len(read) >= READINGS and _settled() >= 5 and _swept() >= 2):
            break
        fire.over.wait(0.5)
    fire.end()

    assert fire.errors == []
    assert {reading.difference_units for reading in read} == {0}
    assert len(read) >= READINGS
    assert _settled() >= 5
    assert _swept() >= 2
    assert any(reading.leaving_units for reading in read)
    assert any(reading.early_units or reading.uncredited_units for reading in read)


def _settled() -> int:
    return Withdrawal.objects.filter(state=Withdrawal.State.SETTLED).count()


def _swept() -> int:
    return RelayTransaction.objects.filter(purpose="sweep", state="confirmed").count()
