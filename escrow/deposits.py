"""
Deposits: what was seen becomes balance when the chain can hardly take it back, and stops being so if it does.

Only these functions post a deposit. Each posting has a generation, so that a deposit that went and came again is posted
anew and never twice.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum

from accounts import clock, pauses
from accounts.errors import Conflict
from escrow import heads, ledger, opinions, sightings
from escrow.chain import network, rpc
from escrow.ledger import Move
from escrow.models import Deposit

State, PostedTo = Deposit.State, Deposit.PostedTo
DUE = (State.SEEN, State.BELOW_MINIMUM, State.UNATTRIBUTED)
# What all agents together may have credited before it is final, as a multiple of one agent's limit.
PLATFORM_SAFE_MULTIPLE = 50


# A return to the sender that ended like this has given the money back to suspense.
CAME_BACK = ("cancelled", "rejected", "refunded")


class NotDue(Conflict):
    """The deposit is posted already, gone, or not final enough."""


@heads.reported("credit")
def credit_due(limit: int = 200) -> int:
    """
    Credit what has become safe enough, and answer how many. While deposits are paused nothing is.

    Each is looked at once more on the chain, under the block it was seen in, before its own transaction posts it; a
    large one on a second node as well.

    :raises ChainNotTrusted: if the node contradicts itself; then nothing is credited
    :raises NodeError: if it does not answer, or refused to say something of one of them
    """
    if pauses.is_paused(pauses.Flag.DEPOSITS):
        return 0
    here, node = network.current(), network.node()
    tips, second = heads.trusted(node, here), opinions.Second(here)
    credited, refusal = 0, None
    for deposit in _due(here, tips)[:limit]:
        try:
            if not opinions.stands(node, here, deposit) or not second.agrees(deposit, tips):
                continue
            credit(deposit.id, block_hash=deposit.block_hash, finalized=tips.finalized.number)
        except NotDue:
            continue
        except rpc.NodeRefused as error:  # the others need not wait for it
            refusal = error
            continue
        credited += 1
    second.end()
    for agent_id in _with_enough_small_ones(here):
        with suppress(NotDue):  # another process was first
            release_small(agent_id)
    if refusal:
        raise refusal
    return credited


@transaction.atomic
def credit(deposit_id: UUID, *, block_hash: bytes, finalized: int, at: datetime | None = None) -> Deposit:
    """
    Post a deposit that was found on the chain under this block: to its agent, or to suspense.

    Suspense takes what is below the minimum, until it adds up, and what nobody's address received.

    :param finalized: the number of the finalized block
    :raises NotDue: if it is posted already, in another block by now, or has to wait until it is final
    """
    deposit = Deposit.objects.select_for_update(no_key=True).get(pk=deposit_id)
    if deposit.state not in DUE or deposit.posted_to or deposit.block_hash != block_hash:
        raise NotDue("The deposit is not waiting for this.")
    if deposit.block_number > finalized:
        _require_within_safe_limit(deposit, finalized=finalized)
    at = at or clock.now()
    deposit.generation += 1
    if deposit.state == State.SEEN:
        deposit.state, deposit.posted_to, deposit.credited_at = State.CREDITED, PostedTo.AVAILABLE, at
        sightings.tell("deposit.credited", deposit, at=at)
    else:
        deposit.posted_to = PostedTo.SUSPENSE
    owed_units = _repaid_now(deposit)
    moves = _credit_moves(deposit, owed_units)
    deposit.shortfall_units -= owed_units
    deposit.save(update_fields=["state", "posted_to", "credited_at", "generation", "shortfall_units"])
    ledger.post(f"deposit:{deposit.id}:credit:{deposit.generation}", kind="deposit", moves=moves, at=at)
    return deposit


@transaction.atomic
def release_small(agent_id: UUID, *, at: datetime | None = None) -> int:
    """
    Credit an agent's deposits below the minimum once they reach it together, and answer the sum in micro-USDC.

    :raises NotDue: if they do not
    """
    small = Deposit.objects.filter(agent_id=agent_id, state=State.BELOW_MINIMUM, posted_to=PostedTo.SUSPENSE)
    rows = list(small.select_for_update(no_key=True).order_by("pk"))
    total, owed = sum(row.amount_units for row in rows), sum(row.shortfall_units for row in rows)
    if total < settings.DEPOSIT_MINIMUM_UNITS:
        raise NotDue("The deposits do not reach the minimum yet.")
    at = at or clock.now()
    for row in rows:
        row.state, row.posted_to, row.credited_at, row.shortfall_units = State.CREDITED, PostedTo.AVAILABLE, at, 0
        row.save(update_fields=["state", "posted_to", "credited_at", "shortfall_units"])
        sightings.tell("deposit.credited", row, at=at)
    last = rows[-1]
    moves = [
        Move("suspense", ledger.PLATFORM, -total),
        Move("shortfall", ledger.PLATFORM, owed),
        Move("available", str(agent_id), total - owed),
    ]
    ledger.post(
        f"deposit:{last.id}:release:{last.generation}",
        kind="deposit",
        moves=[move for move in moves if move.amount_units],
        at=at,
    )
    return total


def reverse_orphaned() -> int:
    """Take back every posting whose block is gone, and answer how many."""
    lost = Deposit.objects.filter(state=State.ORPHANED).exclude(posted_to="")
    count = 0
    for deposit_id in lost.order_by("pk").values_list("pk", flat=True):
        try:
            _reverse(deposit_id)
        except NotDue:
            continue
        count += 1
    return count


def _reverse(deposit_id: UUID) -> None:
    short_units = 0
    while True:
        try:
            reverse(deposit_id, short_units=short_units)
            return
        except ledger.InsufficientFunds as refusal:
            short_units += refusal.short_by_units


@transaction.atomic
def reverse(deposit_id: UUID, *, short_units: int = 0, at: datetime | None = None) -> Deposit:
    """
    Take back the posting of an orphaned deposit, but for `short_units` that are spent: these go to `shortfall`.

    :raises NotDue: if there is nothing to take back
    :raises ledger.InsufficientFunds: if more than that is spent
    """
    deposit = Deposit.objects.select_for_update(no_key=True).get(pk=deposit_id)
    if deposit.state != State.ORPHANED or not deposit.posted_to:
        raise NotDue("There is no posting to take back.")
    if deposit.returned_by.exclude(state__in=CAME_BACK).exists():
        short_units = deposit.amount_units  # it is not in suspense any more: what lies there is other people's
    at = at or clock.now()
    moves = [
        Move(*_holder(deposit), short_units - deposit.amount_units),
        Move("shortfall", ledger.PLATFORM, -short_units),
        Move(*_custody(deposit), deposit.amount_units),
    ]
    deposit.posted_to, deposit.credited_at = PostedTo.NOWHERE, None
    deposit.shortfall_units += short_units
    deposit.save(update_fields=["posted_to", "credited_at", "shortfall_units"])
    ledger.post(
        f"deposit:{deposit.id}:reverse:{deposit.generation}",
        kind="deposit_reversal",
        moves=[move for move in moves if move.amount_units],
        at=at,
    )
    return deposit


def _repaid_now(deposit: Deposit) -> int:
    """
    What an earlier reversal could not take from the agent is paid first.

    What is below the minimum pays it when it is released: until then all of it is in suspense, nobody else's money.
    """
    return 0 if deposit.state == State.BELOW_MINIMUM else deposit.shortfall_units


def _credit_moves(deposit: Deposit, owed_units: int) -> list[Move]:
    moves = [
        Move(*_custody(deposit), -deposit.amount_units),
        Move("shortfall", ledger.PLATFORM, owed_units),
        Move(*_holder(deposit), deposit.amount_units - owed_units),
    ]
    return [move for move in moves if move.amount_units]


def _holder(deposit: Deposit) -> tuple[str, str]:
    if deposit.posted_to == PostedTo.AVAILABLE:
        return ("available", str(deposit.agent_id))
    return ("suspense", ledger.PLATFORM)


def _custody(deposit: Deposit) -> tuple[str, str]:
    return ("custody", f"chain:{deposit.chain_id}")


def _require_within_safe_limit(deposit: Deposit, *, finalized: int) -> None:
    """
    Before it is final a deposit counts only while little is at stake, for its agent and for all.

    :raises NotDue: if it has to wait
    """
    if deposit.state != State.SEEN or deposit.agent_id is None:
        raise NotDue("Only a deposit for an agent's balance counts before it is final.")
    with connection.cursor() as cursor:  # one at a time, or two could pass the limit together
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('deposits.safe'))")
    early = Deposit.objects.filter(chain_id=deposit.chain_id, state=State.CREDITED, block_number__gt=finalized)
    limit = settings.DEPOSIT_SAFE_LIMIT_UNITS
    of_all = early.aggregate(total=Sum("amount_units"))["total"] or 0
    of_agent = early.filter(agent_id=deposit.agent_id).aggregate(total=Sum("amount_units"))["total"] or 0
    if of_agent + deposit.amount_units > limit or of_all + deposit.amount_units > limit * PLATFORM_SAFE_MULTIPLE:
        raise NotDue("The deposit waits until its block is final.")


def _due(here: network.Network, tips: rpc.Heads) -> QuerySet[Deposit]:
    """What may be final enough; before it is final only what goes to an agent's balance."""
    enough = Q(block_number__lte=tips.finalized.number) | Q(state=State.SEEN, block_number__lte=tips.safe.number)
    waiting = Deposit.objects.filter(enough, chain_id=here.chain_id, state__in=DUE, posted_to="")
    # Large ones may wait for a second node: they keep nobody else from their turn.
    waiting = waiting.annotate(is_large=Q(amount_units__gte=settings.DEPOSIT_SECOND_OPINION_ABOVE_UNITS))
    return waiting.order_by("is_large", "block_number", "log_index")


def _with_enough_small_ones(here: network.Network) -> list[UUID]:
    small = Deposit.objects.filter(
        chain_id=here.chain_id, state=State.BELOW_MINIMUM, posted_to=PostedTo.SUSPENSE
    ).values("agent_id")
    enough = small.annotate(total=Sum("amount_units")).filter(total__gte=settings.DEPOSIT_MINIMUM_UNITS)
    return [row["agent_id"] for row in enough]
