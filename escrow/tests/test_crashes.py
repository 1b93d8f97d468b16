"""
The treasury process dies at each step of a payout; another one takes over: paid once, or given back once.

Death is a BaseException at a place the test chooses, with real commits: nothing of ours catches it, what is committed
stays, and the claim on the row is left behind as a killed process leaves it. (Real kills: the kill matrix.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from escrow import leases, ledger, payouts, recognition, reconciliation, relays, withdrawals
from escrow.chain import rpc
from escrow.models import Authorization, Relayer, RelayTransaction, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.forgotten import pay_unknown, spend_nonce_of
from escrow.tests.treasury import entry_for, run, treasury_tick

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """The process is gone."""


def dying_before(function: Callable[..., Any], last_breath: Callable[[], None]) -> Callable[..., Any]:
    def die(*args: Any, **kwargs: Any) -> Any:
        last_breath()
        raise Killed

    return die


def dying_after(function: Callable[..., Any], last_breath: Callable[[], None]) -> Callable[..., Any]:
    def die(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        last_breath()
        raise Killed

    return die


@pytest.fixture
def dying(monkeypatch):
    """Let a process die in or after a function of somebody's, its claims left behind as they are."""

    @contextmanager
    def dying(owner: Any, name: str, death: Callable[..., Any]) -> Iterator[None]:
        with monkeypatch.context() as doom:

            def last_breath() -> None:
                doom.setattr(leases, "release", lambda *_: None)

            doom.setattr(owner, name, death(getattr(owner, name), last_breath))
            yield

    return dying


def claims_run_out() -> None:
    Withdrawal.objects.update(lease_until=None)
    RelayTransaction.objects.update(lease_until=None)


def keys() -> Any:
    from escrow.signing import keys

    return keys


# where, whose function, and whether the process dies before or after it
POINTS = [
    ("claimed, nothing written", lambda: payouts, "authorize", dying_before),
    ("authorization committed", lambda: payouts, "authorize", dying_after),
    ("while signing the authorization", keys, "sign_digest", dying_before),
    ("authorization signed", keys, "sign_digest", dying_after),
    ("before the nonce is handed out", lambda: relays, "allocate_for_withdrawal", dying_before),
    ("nonce committed", lambda: relays, "allocate_for_withdrawal", dying_after),
    ("while signing the relay", keys, "sign_transaction", dying_before),
    ("relay signed, not stored", keys, "sign_transaction", dying_after),
    ("relay stored, not sent", lambda: relays, "_sign", dying_after),
    ("the node took it, no answer came", lambda: rpc.Node, "send", dying_after),
    ("sent, not marked", lambda: relays, "_mark_sent", dying_before),
    ("marked as sent", lambda: relays, "_mark_sent", dying_after),
    ("final, not settled", lambda: payouts, "settle", dying_before),
    ("in the middle of settling", lambda: withdrawals, "end", dying_after),
    ("settled", lambda: payouts, "settle", dying_after),
]


@pytest.mark.parametrize(("owner", "name", "death"), [point[1:] for point in POINTS], ids=[p[0] for p in POINTS])
def test_paid_exactly_once(chain, rich, dying, balance_of, ask, owner, name, death):
    withdrawal = ask()

    with dying(owner(), name, death), pytest.raises(Killed):
        run(chain, 4)
    claims_run_out()
    run(chain)

    withdrawal.refresh_from_db()
    assert withdrawal.state == "settled"
    assert chain.balance(withdrawal.address) == 40 * UNITS
    assert balance_of("withdrawing", rich) == 0
    assert Authorization.objects.count() == 1
    assert not RelayTransaction.objects.filter(state__in=RelayTransaction.OPEN).exists()
    assert reconciliation.compare().difference_units == 0


@pytest.mark.parametrize(("owner", "name", "death"), [p[1:] for p in POINTS[:9]], ids=[p[0] for p in POINTS[:9]])
def test_given_back_exactly_once_when_nobody_comes_in_time(
    chain, rich, dying, balance_of, ask, settings, owner, name, death
):
    withdrawal = ask()
    with dying(owner(), name, death), pytest.raises(Killed):
        treasury_tick()
    if not Authorization.objects.exists():
        withdrawals.cancel(withdrawal.pk, agent=rich)

    claims_run_out()
    chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
    chain.finalize()
    run(chain)

    withdrawal.refresh_from_db()
    assert withdrawal.state in ("refunded", "cancelled")
    assert chain.balance(withdrawal.address) == 0
    assert balance_of("available", rich) == 100 * UNITS
    assert not RelayTransaction.objects.filter(state__in=RelayTransaction.OPEN).exists()


def test_the_dead_ones_claim_runs_out(rich, ask, chain, dying):
    ask()
    with dying(payouts, "authorize", dying_before), pytest.raises(Killed):
        payouts.authorize_due()
    assert payouts.authorize_due() == 0  # claimed

    claimed = Withdrawal.objects.get()
    Withdrawal.objects.update(lease_until=claimed.lease_until - leases.timedelta(seconds=leases.SECONDS))

    assert payouts.authorize_due() == 1


def test_a_sweep_that_died_after_its_nonce_goes_on(chain, alice, pay_in, dying):
    from escrow import scans, sweeps

    pay_in(alice, 160 * UNITS)
    chain.finalize()
    scans.scan()
    sweeps.sweep_due()
    with dying(relays, "_send", dying_before), pytest.raises(Killed):
        relays.push_due()
    claims_run_out()

    run(chain)

    assert chain.balance(chain.treasury) == 160 * UNITS
    assert RelayTransaction.objects.get().state == "confirmed"
    assert ledger.balance("suspense", "platform") == 0


RECOGNITION = [
    ("row of the outflow written", lambda: recognition, "recognise", dying_before),
    ("in the middle of recognising", lambda: withdrawals, "end", dying_after),
    ("withdrawal of the past written", lambda: ledger, "post", dying_before),
    ("recognised, the alarm still on", lambda: recognition, "recognise", dying_after),
    ("before the nonces are caught up", lambda: relays, "catch_up", dying_before),
]


@pytest.mark.parametrize(("owner", "name", "death"), [p[1:] for p in RECOGNITION], ids=[p[0] for p in RECOGNITION])
def test_a_forgotten_payout_is_recognised_once_whoever_dies(chain, rich, dying, ask, balance_of, owner, name, death):
    waiting, receiver = ask(), entry_for(rich).address
    pay_unknown(chain, waiting.address, 40 * UNITS, nonce=payouts.nonce_of(waiting))
    pay_unknown(chain, receiver, 10 * UNITS)
    spend_nonce_of(chain, Relayer.objects.first().address)
    chain.finalize()

    with dying(owner(), name, death), pytest.raises(Killed):
        recognition.recognise_due()
    recognition.recognise_due()

    waiting.refresh_from_db()
    assert waiting.state == "recognised"
    assert Withdrawal.objects.filter(state="recognised").count() == 2
    assert balance_of("available", rich) == 50 * UNITS - waiting.fee_units
    assert balance_of("withdrawing", rich) == 0
    assert recognition.recognise_due() == 0
    assert reconciliation.compare().difference_units == 0
