"""
Money on its way, row by row: deposits, payouts, transfers nothing explains, relays that hang.

Each list is the newest or most urgent of its kind, never all; how many there are stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import CharField, Count, Exists, F, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum, Window
from django.db.models.functions import Cast

from accounts.models import Alert
from escrow import withdrawal_table as table
from escrow.console import words
from escrow.models import (
    Deposit,
    Outflow,
    RelayAttempt,
    RelayTransaction,
    Withdrawal,
    WithdrawalApproval,
)

SHOWN = 25
RECENT = timedelta(days=7)
State = Withdrawal.State


@dataclass(frozen=True)
class List:
    """Some rows, and how many there are in all."""

    rows: list[Any]
    count: int

    @property
    def hidden(self) -> int:
        return self.count - len(self.rows)


class Payouts(NamedTuple):
    held: List
    under_way: List
    ended: List
    # (state, number, micro-USDC) of the open ones
    totals: list[tuple[str, int, int]]

    @property
    def pending_units(self) -> int:
        return sum(units for _, _, units in self.totals)


NONE = List([], 0)
NO_PAYOUTS = Payouts(NONE, NONE, NONE, [])


def alerts() -> List:
    """What is wrong now, the newest first."""
    return _some(_named(Alert.objects.filter(cleared_at=None).order_by("-since", "-pk")))


def cleared_alerts(at: datetime) -> List:
    """What was wrong in the last days and is over."""
    return _some(_named(Alert.objects.filter(cleared_at__gte=at - RECENT).order_by("-cleared_at", "-pk")), shown=10)


def deposits(chain_id: int, *, latest: int, at: datetime) -> List:
    """
    What was seen and is nobody's balance yet, and what a reorg took back lately.

    A deposit without an agent stays until it is back at its sender.
    """
    gone_back = Withdrawal.objects.filter(returns=OuterRef("pk"))
    which = (
        Q(state__in=[Deposit.State.SEEN, Deposit.State.BELOW_MINIMUM])
        | (Q(state=Deposit.State.UNATTRIBUTED) & ~Q(Exists(gone_back.filter(state=State.SETTLED))))
        | (Q(state=Deposit.State.ORPHANED) & (Q(seen_at__gte=at - RECENT) | ~Q(posted_to="")))
    )
    rows = (
        Deposit.objects.filter(which, chain_id=chain_id)
        .select_related("agent")
        .annotate(going_back=Exists(gone_back.filter(state__in=Withdrawal.OPEN)))
        .order_by("-seen_at", "-pk")
    )
    found = _some(rows)
    for deposit in found.rows:
        orphaned = deposit.state == Deposit.State.ORPHANED
        deposit.confirmations = None if orphaned else max(latest - deposit.block_number + 1, 0)
        deposit.waits_for = _deposit_waits_for(deposit)
        deposit.may_go_back = (
            deposit.state == Deposit.State.UNATTRIBUTED and deposit.posted_to == "suspense" and not deposit.going_back
        )
    return found


def payouts(chain_id: int, *, paused: bool, finalized: int, funds_units: int | None, at: datetime) -> Payouts:
    """The open payouts, those that wait for a treasurer first, and the newest that ended."""
    rows = (
        Withdrawal.objects.filter(chain_id=chain_id)
        .select_related("agent", "asked_by")
        .annotate(
            given=Subquery(
                WithdrawalApproval.objects.filter(withdrawal=OuterRef("pk"))
                .order_by()
                .values("withdrawal")
                .annotate(count=Count("pk"))
                .values("count")
            ),
            newest_tx=Subquery(
                RelayAttempt.objects.filter(relay__withdrawal=OuterRef("pk"), filler=False)
                .order_by("-signed_at")
                .values("tx_hash")[:1]
            ),
        )
    )
    approvals = Prefetch("approvals", WithdrawalApproval.objects.select_related("by").order_by("at"))
    held = _some(rows.filter(state=State.HELD).prefetch_related(approvals).order_by("requested_at", "pk"))
    open_states = [state for state in Withdrawal.OPEN if state != State.HELD]
    under_way = _some(rows.filter(state__in=open_states).order_by("requested_at", "pk"))
    ended = _some(rows.exclude(state__in=Withdrawal.OPEN).order_by(F("closed_at").desc(), "-pk"), shown=10)
    overdue = at - timedelta(seconds=settings.PAYOUT_OVERDUE_SECONDS)
    for payout in (*held.rows, *under_way.rows, *ended.rows):
        payout.given = payout.given or 0
        payout.tx = payout.tx_hash or payout.newest_tx
        payout.is_late = payout.state in open_states and payout.state != State.COOLING and payout.requested_at < overdue
        payout.whose = payout.agent.handle if payout.agent else words.OWNERS.get(payout.owner, payout.owner)
        payout.may_call_off = payout.asked_by_id is not None and payout.state in table.CANCELLABLE
        payout.reasons = words.held_for(payout.held_for)
        payout.waits_for = words.waits_for(payout, paused=paused, finalized=finalized, funds_units=funds_units, at=at)
    totals = (
        Withdrawal.objects.filter(chain_id=chain_id, state__in=Withdrawal.OPEN)
        .order_by()
        .values_list("state")
        .annotate(count=Count("pk"), units=Sum("amount_units"))
    )
    return Payouts(held, under_way, ended, sorted(totals, key=lambda row: Withdrawal.OPEN.index(row[0])))


def unexplained(chain_id: int) -> List:
    """USDC that left an address of ours and nothing explains, first what was compared with all payouts in vain."""
    alarm = Alert.objects.filter(kind="unexplained_outflow", cleared_at=None, subject=Cast(OuterRef("pk"), CharField()))
    return _some(
        Outflow.objects.filter(chain_id=chain_id, explanation="", orphaned_at=None)
        .annotate(is_alarming=Exists(alarm))
        .order_by("-is_alarming", "-block_number", "-pk")
    )


def stuck_relays(chain_id: int, at: datetime) -> List:
    """Relays open for longer than a replacement should take, the oldest first."""
    waited = at - timedelta(seconds=2 * settings.RELAY_REPLACE_SECONDS)
    newest = RelayAttempt.objects.filter(relay=OuterRef("pk")).order_by("-number")
    rows = (
        RelayTransaction.objects.filter(
            relayer__chain_id=chain_id, state__in=RelayTransaction.OPEN, created_at__lt=waited
        )
        .select_related("relayer")
        .annotate(
            newest_tx=Subquery(newest.values("tx_hash")[:1]),
            max_fee=Subquery(newest.values("max_fee")[:1]),
            tries=Subquery(newest.values("number")[:1]),
        )
        .defer("data")
        .order_by("created_at", "pk")
    )
    return _some(rows)


def _deposit_waits_for(deposit: Any) -> str:
    match deposit.state:
        case Deposit.State.SEEN:
            return "its block to be safe"
        case Deposit.State.BELOW_MINIMUM:
            return "more of the same agent: together they reach the minimum"
        case Deposit.State.UNATTRIBUTED:
            if deposit.going_back:
                return "its return, which is under way"
            return "a treasurer: it is in suspense" if deposit.posted_to else "its block to be final"
    return "its reversal" if deposit.posted_to else "nothing: its block is gone"


def _named(rows: QuerySet[Alert]) -> QuerySet[Alert]:
    return rows.defer("attempts", "next_attempt_at")


def _some(rows: QuerySet[Any], *, shown: int = SHOWN) -> List:
    """Read the first rows and count all of them, in one statement."""
    found = list(rows.annotate(of_all=Window(Count("*")))[:shown])
    return List(found, found[0].of_all if found else 0)
