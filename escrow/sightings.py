"""What the chain showed: each transfer to an address of ours as one row, keyed by its log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from accounts import clock, ids
from accounts.edge.fields import units_to_text
from accounts.events import log
from escrow import deposit_addresses
from escrow.chain import network, rpc, usdc
from escrow.models import Deposit

LARGEST = 2**63 - 1


def write(here: network.Network, found: Sequence[usdc.Transfer]) -> int:
    """
    Write down transfers to addresses of ours, in the caller's transaction, and answer how many were news.

    A log that came back in another block takes its row along; one that is known stays as it is. What a reversal could
    not take back is paid by the same transfer when it comes again. Where the log's key stands for a transfer to another
    agent, or for less, the row stays behind as the debt it is: its agent owes on, and nobody inherits it.
    """
    owners = deposit_addresses.owners(here, usdc.parties(found))
    rows = [
        _row(transfer, owners.get(transfer.receiver))
        for transfer in found
        if 0 < transfer.amount_units <= LARGEST and transfer.receiver in owners and transfer.sender not in owners
    ]
    if not rows:
        return 0
    _require_reversed(here, found)
    at = clock.now()
    columns = [list(column) for column in zip(*((ids.uuid7(), here.chain_id, *row) for row in rows), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE escrow_deposit AS d SET replaced_at = %s, state = 'orphaned'
            FROM unnest(%s::bigint[], %s::bytea[], %s::int[], %s::bytea[], %s::bigint[], %s::uuid[])
                AS n (chain_id, tx_hash, log_index, block_hash, amount_units, agent_id)
            WHERE (d.chain_id, d.tx_hash, d.log_index) = (n.chain_id, n.tx_hash, n.log_index)
                AND d.replaced_at IS NULL AND d.posted_to = ''
                AND (d.block_hash <> n.block_hash OR d.state = 'orphaned')
                AND d.shortfall_units > 0
                AND (d.agent_id IS DISTINCT FROM n.agent_id OR d.shortfall_units > n.amount_units)
            """,
            [at, *(columns[n] for n in (1, 2, 3, 5, 8, 9))],
        )
        cursor.execute(
            """
            INSERT INTO escrow_deposit AS d (id, chain_id, tx_hash, log_index, block_number, block_hash, sender,
                receiver, amount_units, agent_id, state, generation, posted_to, shortfall_units, seen_at)
            SELECT n.*, 0, '', 0, %s FROM unnest(%s::uuid[], %s::bigint[], %s::bytea[], %s::int[], %s::bigint[],
                %s::bytea[], %s::bytea[], %s::bytea[], %s::bigint[], %s::uuid[], %s::text[]) AS n
            ON CONFLICT (chain_id, tx_hash, log_index) WHERE replaced_at IS NULL DO UPDATE
            SET block_number = EXCLUDED.block_number, block_hash = EXCLUDED.block_hash, sender = EXCLUDED.sender,
                receiver = EXCLUDED.receiver, amount_units = EXCLUDED.amount_units, agent_id = EXCLUDED.agent_id,
                state = EXCLUDED.state, seen_at = EXCLUDED.seen_at, swept_at = NULL
            WHERE d.posted_to = '' AND (d.block_hash <> EXCLUDED.block_hash OR d.state = 'orphaned')
            RETURNING d.id
            """,
            [at, *columns],
        )
        news = cursor.fetchall()
    for deposit in Deposit.objects.filter(pk__in=[deposit_id for (deposit_id,) in news]):
        tell("deposit.seen", deposit, at=at)
    return len(news)


@transaction.atomic
def let_go(deposit: Deposit, *, at: datetime) -> None:
    """Orphan a row that stands for nothing on the chain, unless somebody has posted it or moved it meanwhile."""
    same = Deposit.objects.filter(pk=deposit.pk, block_hash=deposit.block_hash, state=deposit.state, posted_to="")
    if same.update(state=Deposit.State.ORPHANED):
        tell("deposit.orphaned", deposit, at=at)


def tell(kind: str, deposit: Deposit, *, at: datetime) -> None:
    """Tell the agent, if it has one, what became of a deposit."""
    if deposit.agent_id:
        data = {
            "deposit_id": str(deposit.id),
            "tx_hash": rpc.text(deposit.tx_hash),
            "amount": units_to_text(deposit.amount_units),
        }
        log.record(kind, to=[deposit.agent_id], data=data, at=at)


def _row(transfer: usdc.Transfer, agent_id: UUID | None) -> tuple[object, ...]:
    if agent_id is None:
        state = Deposit.State.UNATTRIBUTED
    elif transfer.amount_units < settings.DEPOSIT_MINIMUM_UNITS:
        state = Deposit.State.BELOW_MINIMUM
    else:
        state = Deposit.State.SEEN
    return (
        transfer.tx_hash,
        transfer.log_index,
        transfer.block_number,
        transfer.block_hash,
        transfer.sender,
        transfer.receiver,
        transfer.amount_units,
        agent_id,
        str(state),
    )


def _require_reversed(here: network.Network, found: Sequence[usdc.Transfer]) -> None:
    """
    A posting of a branch that is gone comes back first; then its row may stand for a log of the new branch.

    :raises ChainNotTrusted: if one of these rows is posted under another block
    """
    known = {(transfer.tx_hash, transfer.log_index): transfer.block_hash for transfer in found}
    posted = Deposit.objects.filter(chain_id=here.chain_id, tx_hash__in=[tx_hash for tx_hash, _ in known])
    for row in posted.exclude(posted_to=""):
        if known.get((row.tx_hash, row.log_index), row.block_hash) != row.block_hash:
            raise rpc.ChainNotTrusted(
                "a posted deposit shows up in another block: it has to be reversed first", reason="log_moved"
            )
