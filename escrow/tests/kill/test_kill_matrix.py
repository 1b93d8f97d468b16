"""
A treasury process is killed at each step of a payout, whatever the node makes of it; two others finish it at once.

The payout is made exactly once, or given back exactly once, and nothing is left open behind it.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import pytest

from accounts.models.events import Event
from escrow import reconciliation
from escrow.chain import usdc
from escrow.models import Authorization, Relayer, RelayTransaction, Transfer, Withdrawal
from escrow.tests.chain import UNITS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("kill")]
AMOUNT = 40 * UNITS
SENT = "eth_sendRawTransaction"


class Point(NamedTuple):
    """Where the process dies. Up to the answer of the node no block is mined: the transaction may still be lost."""

    name: str
    at: str
    mined: bool = False
    lapses: bool = False  # nobody comes in time: the money goes back
    settings: dict[str, str] = {}


IMPATIENT = {"RELAY_REPLACE_SECONDS": "1"}
IN_FLIGHT = "while the node has it, before an answer"  # killed from outside
POINTS = (
    Point("asked for, not claimed", "escrow.leases:claim before 1"),
    Point("claimed, nothing written", "escrow.payouts:authorize before 1"),
    Point("authorization committed", "escrow.payouts:authorize after 1", lapses=True),
    Point("while signing the authorization", "escrow.signing.keys:sign_digest before 1", lapses=True),
    Point("authorization signed", "escrow.signing.keys:sign_digest after 1", lapses=True),
    Point("before the nonce", "escrow.relays:allocate_for_withdrawal before 1", lapses=True),
    Point("nonce committed", "escrow.relays:allocate_for_withdrawal after 1", lapses=True),
    Point("while signing the relay", "escrow.signing.keys:sign_transaction before 1", lapses=True),
    Point("relay signed, not stored", "escrow.signing.keys:sign_transaction after 1", lapses=True),
    Point("relay stored, not sent", "escrow.relays:_sign after 1", lapses=True),
    Point("about to send", "escrow.chain.rpc:Node.send before 1", lapses=True),
    Point(IN_FLIGHT, "", lapses=True),
    Point("answered, not marked", "escrow.relays:_mark_sent before 1", lapses=True),
    Point("marked as sent", "escrow.relays:_mark_sent after 1", lapses=True),
    Point("replacement signed, not sent", "escrow.relays:_sign after 2", lapses=True, settings=IMPATIENT),
    Point("mined, not final", "escrow.relays:_close_if_final before 1", mined=True),
    Point("relay closed", "escrow.relays:_close after 1", mined=True),
    Point("final, not settled", "escrow.payouts:settle before 1", mined=True),
    Point("in the middle of settling", "escrow.withdrawals:end after 1", mined=True),
    Point("settled, not committed", "escrow.ledger:post after 1", mined=True),
    Point("settled", "escrow.payouts:settle after 1", mined=True),
)  # fmt: skip
NODES = ("behaves", "error_after_accepting", "drop")  # what happens to the first transaction that is sent
# Whole families in little time; `make test-long` plays all.
SOON = {
    ("claimed, nothing written", "behaves", False),
    ("nonce committed", "error_after_accepting", False),
    (IN_FLIGHT, "drop", False),
    ("replacement signed, not sent", "behaves", False),
    ("in the middle of settling", "behaves", False),
    ("relay stored, not sent", "drop", True),
}


def cases() -> list[Any]:
    played = [(point, node, False) for point in POINTS for node in NODES]
    played += [(point, node, True) for point in POINTS if point.lapses for node in NODES]
    return [
        pytest.param(
            point,
            node,
            late,
            marks=[] if (point.name, node, late) in SOON else [pytest.mark.long],
            id=f"{point.name}-{node}{'-too late' if late else ''}",
        )
        for point, node, late in played
    ]


@pytest.mark.parametrize(("point", "node", "late"), cases())
def test_paid_or_given_back_exactly_once(stage, request, settings, balance_of, point, node, late):
    doomed = stage.doomed(point.at, **point.settings)
    chain, ask, rich = (request.getfixturevalue(name) for name in ("chain", "ask", "rich"))
    chain.automine(False)
    withdrawal = ask(AMOUNT)
    if node != "behaves":
        stage.proxy.fault(SENT, node, times=1)

    if point.name == IN_FLIGHT:
        kill_in_flight(stage, doomed, first=node)
    doomed.dies(between=lambda: chain.mine(2) if point.mined else None)
    if late:
        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
    stage.proxy.calls.clear()
    stage.take_over(lambda: is_over(withdrawal))

    withdrawal.refresh_from_db()
    assert withdrawal.state == ("refunded" if late else "settled")
    assert chain.balance(withdrawal.address) == (0 if late else AMOUNT)
    assert chain.balance(chain.treasury) == 100 * UNITS - (0 if late else AMOUNT)
    assert payments_of(chain, withdrawal) == (0 if late else 1)
    assert balance_of("withdrawing", rich) == 0
    assert balance_of("available", rich) == 100 * UNITS - (0 if late else AMOUNT + withdrawal.fee_units)
    assert Authorization.objects.count() == 1
    assert ends_of(withdrawal) == ["refund" if late else "settle"]
    assert Event.objects.filter(type__in=["withdrawal.settled", "withdrawal.refunded"]).count() == 1
    assert_no_nonce_is_open_or_missing(chain)
    assert reconciliation.compare().difference_units == 0


def kill_in_flight(stage, doomed, *, first):
    """Kill the process when the node has taken its transaction and before it has said so."""

    def kill(_, answer):
        os.kill(doomed.process.pid, 9)
        return answer

    if first != "behaves":
        doomed.works_until(lambda: stage.proxy.calls[SENT], between=lambda: None)
    stage.proxy.fault(SENT, kill, times=1)


def is_over(withdrawal) -> bool:
    closed = Withdrawal.objects.filter(pk=withdrawal.pk, closed_at__isnull=False)
    return closed.exists() and not RelayTransaction.objects.filter(state__in=RelayTransaction.OPEN).exists()


def ends_of(withdrawal) -> list[str]:
    ends = Transfer.objects.filter(reference__startswith=f"withdrawal:{withdrawal.id}:")
    words = [reference.rpartition(":")[2] for reference in ends.values_list("reference", flat=True)]
    return [word for word in words if word != "request"]


def payments_of(chain, withdrawal) -> int:
    """How often the chain paid it, by its own logs."""
    latest = chain.head().number
    moved = usdc.transfers(chain.node, chain.usdc, first=0, last=latest, receivers=[withdrawal.address])
    nonce = Authorization.objects.get().nonce
    used = usdc.authorization_logs(
        chain.node, chain.usdc, authorizer=chain.treasury, nonces=[nonce], first=0, last=latest
    )
    assert [log.used for log in used] == [True] * len(moved)
    return len(moved)


def assert_no_nonce_is_open_or_missing(chain) -> None:
    for relayer in Relayer.objects.all():
        rows = list(
            RelayTransaction.objects.filter(relayer=relayer).order_by("nonce").values_list("nonce", "closed_at")
        )

        assert [nonce for nonce, _ in rows] == list(range(relayer.next_nonce - len(rows), relayer.next_nonce))
        assert all(closed_at for _, closed_at in rows)
        assert chain.node.transaction_count(relayer.address) == relayer.next_nonce


def test_a_process_that_does_not_die_is_noticed(stage, request):
    """The proof of death is no empty word: a process that was merely stopped does not count as killed."""
    doomed = stage.doomed("escrow.payouts:settle before 1000")
    doomed.process.stop()

    with pytest.raises(AssertionError):
        doomed.dies(between=lambda: None)
