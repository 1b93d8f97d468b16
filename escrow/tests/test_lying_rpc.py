"""
The node lies, lags, contradicts itself, or is silent: nothing is credited, nothing is given back, nothing is skipped.

Each lie is told through a proxy, to every verb that asks the chain; then the node is honest again, and everything goes
on by itself to the end it would have had. Between two lies the database and the chain are put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from django.db import transaction

from accounts import alerts, pauses
from escrow import custody, deposits, payouts, reconciliation, relays, scans, sweeps, tasks, watch
from escrow.chain import rpc
from escrow.models import Authorization, Deposit, Relayer, RelayTransaction, Withdrawal
from escrow.tests import lies
from escrow.tests.chain import UNITS

pytestmark = pytest.mark.django_db
VERBS = (
    scans.scan,
    deposits.reverse_orphaned,
    deposits.credit_due,
    payouts.authorize_due,
    payouts.relay_due,
    relays.push_due,
    payouts.settle_due,
    sweeps.sweep_due,
)
PAID, DEPOSITED = 40 * UNITS, 30 * UNITS
JUNK = [
    pytest.param(lies.some_junk, id="some junk"),
    pytest.param(lies.junk, marks=pytest.mark.long, id="all junk"),
]


@pytest.fixture(autouse=True)
def _in_no_hurry_to_pause(settings, monkeypatch):
    settings.TREASURY_PAUSE_ON = []  # only people end a pause: here everything has to recover by itself
    settings.RELAY_REPLACE_SECONDS = 0
    monkeypatch.setattr(relays, "RESEND_SECONDS", 0)


def ask_the_chain() -> None:
    """Every verb that asks the chain; none of them may fail but in the two ways that everyone expects."""
    for verb in VERBS:
        with suppress(rpc.NodeError, rpc.ChainNotTrusted):
            verb()


@contextmanager
def put_back(chain, liar) -> Iterator[None]:
    snapshot = chain.snapshot()
    chain.catch_up_with_the_clock()
    try:
        with transaction.atomic():
            yield
            transaction.set_rollback(True)
    finally:
        liar.honest()
        chain.revert(snapshot)


# --- deposits ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def arrived(chain, liar, alice, pay_in):
    """A deposit that is final and that nobody has read yet."""
    chain.finalize()
    scans.scan()
    pay_in(alice, DEPOSITED)
    chain.finalize()
    return alice


@pytest.fixture
def seen(arrived):
    """A final deposit that was read, and is not credited yet."""
    scans.scan()
    return arrived


def about_deposits(chain, junk):
    return [*lies.silences(), *junk, *lies.heads(chain), *lies.of_logs(), *lies.of_receipts(), *lies.of_calls()]


# What these are about has no say in crediting: a deposit may be credited all the same.
HARMLESS = {"used nonces are called cancelled", "a receipt of what never was", "a receipt of a far block"}
# Nobody can tell a log that is not shown from one that never was: the scan goes on, and a rescan finds it.
UNNOTICED = {
    "logs of another token",
    "logs that were removed",
    "logs of another transaction",
    "logs of other amounts",
    "logs of endless amounts",
    "nonces are others",
}


def is_believed(lie: lies.Lie, stage: str) -> bool:
    return lie.method == lies.CALL or lie.name in HARMLESS or (stage == "seen" and lie.method == lies.LOGS)


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("stage", ["arrived", pytest.param("seen", marks=pytest.mark.long)])
def test_a_lie_credits_nothing_and_skips_nothing(request, chain, liar, balance_of, subtests, stage, junk):
    alice = request.getfixturevalue(stage)

    for lie in about_deposits(chain, junk()):
        with subtests.test(lie.name), put_back(chain, liar):
            lie.is_told_by(liar)
            ask_the_chain()
            ask_the_chain()
            assert balance_of("available", alice) in ((0, DEPOSITED) if is_believed(lie, stage) else (0,))

            liar.honest()
            chain.mine()
            if lie.name in UNNOTICED:
                scans.rescan(0)
            ask_the_chain()

            assert balance_of("available", alice) == DEPOSITED
            assert Deposit.objects.exclude(state="orphaned").get().state == "credited"
            assert reconciliation.compare().difference_units == 0


# --- payouts ----------------------------------------------------------------------------------------------------------
def sign_and_send() -> None:
    payouts.authorize_due()
    payouts.relay_due()
    relays.push_due()


class Stages:
    """How far a payout has come when the lies begin, and how it has to end."""

    def __init__(self, chain, liar, ask, seconds: int) -> None:
        self.chain, self.liar, self.ask, self.seconds = chain, liar, ask, seconds

    def asked(self) -> str:
        self.ask(PAID)
        return "settled"

    def mined(self) -> str:
        self.ask(PAID)
        sign_and_send()
        return "settled"

    def final(self) -> str:
        self.mined()
        self.chain.finalize()
        return "settled"

    def final_and_expired(self) -> str:
        self.final()
        self._expire()
        return "settled"

    def lost(self) -> str:
        self.ask(PAID)
        self.liar.fault(lies.SENT, "drop")
        sign_and_send()
        self.liar.honest()
        self.chain.finalize()
        return "settled"

    def lost_and_expired(self) -> str:
        self.lost()
        self._expire()
        return "refunded"

    def _expire(self) -> None:
        self.chain.pass_time(self.seconds + 60)
        self.chain.finalize()


# This one decides between paid and given back; `make test-long` plays all.
SOON = {"lost_and_expired"}
STAGES = [
    pytest.param(name, marks=[] if name in SOON else [pytest.mark.long])
    for name in vars(Stages)
    if not name.startswith("_")
]


def about_payouts(chain, junk):
    return [*about_deposits(chain, junk), *lies.of_sending()]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("stage", STAGES)
def test_a_lie_gives_nothing_back_and_pays_nothing_twice(chain, liar, ask, settings, balance_of, subtests, stage, junk):
    end = getattr(Stages(chain, liar, ask, settings.AUTHORIZATION_SECONDS), stage)()
    withdrawal = Withdrawal.objects.get()
    agent = withdrawal.agent

    for lie in about_payouts(chain, junk()):
        with subtests.test(lie.name), put_back(chain, liar):
            lie.is_told_by(liar)
            ask_the_chain()
            ask_the_chain()
            withdrawal.refresh_from_db()
            assert withdrawal.state != "refunded" or end == "refunded"
            assert withdrawal.state != "settled" or stage in ("final", "final_and_expired")
            assert chain.balance(withdrawal.address) in (0, PAID)

            liar.honest()
            finish(chain)

            withdrawal.refresh_from_db()
            assert withdrawal.state == end
            paid = PAID if end == "settled" else 0
            assert chain.balance(withdrawal.address) == paid
            assert balance_of("withdrawing", agent) == 0
            assert balance_of("available", agent) == 100 * UNITS - paid - (withdrawal.fee_units if paid else 0)
            assert Authorization.objects.count() == 1
            for relayer in Relayer.objects.all():
                assert chain.node.transaction_count(relayer.address) == relayer.next_nonce
            assert reconciliation.compare().difference_units == 0


def finish(chain) -> None:
    """Honest rounds, blocks between them, until nothing is open; claims of those that were put off run out."""
    for _ in range(8):
        Withdrawal.objects.update(lease_until=None)
        RelayTransaction.objects.update(lease_until=None)
        ask_the_chain()
        if (
            not Withdrawal.objects.filter(closed_at=None).exists()
            and not RelayTransaction.objects.filter(state__in=RelayTransaction.OPEN).exists()
        ):
            return
        chain.finalize()


# --- each by its own consequences -------------------------------------------------------------------------------------
def test_capitals_are_no_lie(chain, liar, ask):
    liar.fault("*", lies.told(lies.in_capitals))
    withdrawal = ask(PAID)

    finish(chain)

    withdrawal.refresh_from_db()
    assert withdrawal.state == "settled"
    assert chain.balance(withdrawal.address) == PAID


def test_a_log_that_was_not_shown_at_first_is_found_by_the_overlap(chain, liar, alice, pay_in, balance_of):
    chain.finalize()
    scans.scan()
    pay_in(alice, DEPOSITED)
    liar.fault(lies.LOGS, lies.result([]))
    scans.scan()
    assert not Deposit.objects.exists()

    liar.honest()
    chain.mine()
    scans.scan()
    chain.finalize()
    ask_the_chain()

    assert balance_of("available", alice) == DEPOSITED


class TestLogsThatAreKeptBack:
    """Nothing tells a log that is not shown from one that never was, but what the addresses hold."""

    @pytest.fixture
    def kept_back(self, chain, liar, alice, pay_in):
        pay_in(alice, 10 * UNITS)
        chain.finalize()
        ask_the_chain()
        pay_in(alice, DEPOSITED)
        chain.finalize()
        liar.fault(lies.LOGS, lies.result([]))
        scans.scan()
        liar.honest()
        chain.finalize()
        ask_the_chain()
        assert Deposit.objects.count() == 1
        return alice

    def test_the_watch_notices(self, kept_back, settings):
        settings.TREASURY_PAUSE_ON = ["custody_mismatch"]

        watch.watch()

        assert alerts.is_sounding("custody_mismatch")
        assert pauses.is_paused("withdrawals")

    def test_a_rescan_heals(self, kept_back, balance_of):
        watch.watch()

        scans.rescan(0)
        ask_the_chain()
        watch.watch()

        assert balance_of("available", kept_back) == 10 * UNITS + DEPOSITED
        assert not alerts.is_sounding("custody_mismatch")

    def test_an_address_that_never_had_a_deposit_is_looked_at_too_when_all_are(
        self, chain, liar, alice, bob, pay_in, balance_of
    ):
        pay_in(bob, DEPOSITED)
        chain.finalize()
        liar.fault(lies.LOGS, lies.result([]))
        scans.scan()
        liar.honest()
        chain.finalize()
        ask_the_chain()

        assert custody.read(every_address=True).difference_units == -DEPOSITED
        scans.rescan(0)
        ask_the_chain()
        assert custody.read(every_address=True).difference_units == 0
        assert balance_of("available", bob) == DEPOSITED


class TestAlarmClocks:
    """The tasks survive whatever the verbs meet, say it aloud, and take it back."""

    RUNG = (
        tasks.scan_deposits,
        tasks.credit_deposits,
        tasks.explain_outflows,
        tasks.recognise_payouts,
        tasks.watch_treasury,
        tasks.authorize_withdrawals,
        tasks.relay_transactions,
        tasks.settle_withdrawals,
        tasks.sweep_deposits,
    )

    def ring(self):
        for task in self.RUNG:
            task()

    def test_every_silence_and_every_impossible_view_is_told_and_over_when_it_is(
        self, chain, liar, ask, settings, subtests
    ):
        ask(PAID)
        sign_and_send()
        chain.finalize()

        for lie in [*lies.silences(), *lies.heads(chain)]:
            with subtests.test(lie.name), put_back(chain, liar):
                lie.is_told_by(liar)
                self.ring()
                assert alerts.is_sounding("chain_not_trusted") or alerts.is_sounding("chain_unreadable")

                liar.honest()
                chain.mine()
                self.ring()

                assert not alerts.is_sounding("chain_not_trusted")
                assert not alerts.is_sounding("chain_unreadable")

    @pytest.mark.long
    def test_no_lie_stops_a_task(self, chain, liar, ask, subtests):
        ask(PAID)
        sign_and_send()
        chain.finalize()

        for lie in about_payouts(chain, lies.some_junk()):
            with subtests.test(lie.name), put_back(chain, liar):
                lie.is_told_by(liar)
                self.ring()

    def test_a_node_that_hangs_is_waited_for_and_not_longer(self, chain, liar, monkeypatch, arrived, balance_of):
        monkeypatch.setattr(rpc, "TIMEOUT_SECONDS", 0.2)
        rpc._connected.cache_clear()
        liar.fault("*", "hang")

        self.ring()

        assert alerts.is_sounding("chain_unreadable")
        liar.honest()
        monkeypatch.undo()
        rpc._connected.cache_clear()
        ask_the_chain()
        assert balance_of("available", arrived) == DEPOSITED

    def test_three_readings_that_fail_pause_payouts_and_only_people_resume(self, chain, liar, ask, settings):
        settings.TREASURY_PAUSE_ON = ["chain_unreadable"]
        withdrawal = ask(PAID)
        sign_and_send()
        chain.finalize()
        liar.fault("*", "refuse")
        for _ in range(3):
            tasks.watch_treasury()
        assert pauses.is_paused("withdrawals")

        liar.honest()
        self.ring()

        withdrawal.refresh_from_db()
        assert withdrawal.state == "settled"  # what was signed goes on
        assert not alerts.is_sounding("chain_unreadable")
        assert pauses.is_paused("withdrawals")
