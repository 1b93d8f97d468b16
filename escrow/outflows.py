"""
What left addresses of ours, each transfer as one row, keyed by its log. Why it left is said later, by `explanations`.

Only what went from one address of ours to another explains itself: a sweep, or a move to or from a cold address.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from accounts import clock, ids
from escrow import deposit_addresses
from escrow.chain import network, rpc, usdc
from escrow.models import Outflow

LARGEST = 2**63 - 1
Explanation = Outflow.Explanation


def write(here: network.Network, found: Sequence[usdc.Transfer]) -> int:
    """
    Write down transfers from addresses of ours, in the caller's transaction, and answer how many were news.

    A log that came back in another block takes its row along, and what was said of it if it still says the same. Two
    logs of one payout are both explained anew. A transfer of nothing leaves nothing: anybody can make one in our name.
    """
    ours = deposit_addresses.owners(here, usdc.parties(found))
    leaving = [one for one in found if one.sender in ours and 0 < one.amount_units <= LARGEST]
    if not leaving:
        return 0
    _require_orphaned(here, leaving)
    at = clock.now()
    rows = [
        (ids.uuid7(), *one.place, one.sender, one.receiver, one.amount_units, *_explained(one.receiver in ours, at))
        for one in leaving
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO escrow_outflow AS o (chain_id, id, block_number, block_hash, tx_hash, log_index, sender,
                receiver, amount_units, explanation, explained_at, reason, seen_at)
            SELECT %s, n.*, '', %s FROM unnest(%s::uuid[], %s::bigint[], %s::bytea[], %s::bytea[], %s::int[],
                %s::bytea[], %s::bytea[], %s::bigint[], %s::text[], %s::timestamptz[]) AS n
            ON CONFLICT (chain_id, tx_hash, log_index) DO UPDATE
            SET (block_number, block_hash, sender, receiver, amount_units, seen_at, orphaned_at,
                 explanation, explained_at, withdrawal_id, nonce, by_id, reason) = (
                SELECT EXCLUDED.block_number, EXCLUDED.block_hash, EXCLUDED.sender, EXCLUDED.receiver,
                    EXCLUDED.amount_units, EXCLUDED.seen_at, NULL::timestamptz,
                    CASE WHEN keeps THEN o.explanation ELSE EXCLUDED.explanation END,
                    CASE WHEN keeps THEN o.explained_at ELSE EXCLUDED.explained_at END,
                    CASE WHEN keeps THEN o.withdrawal_id END,
                    CASE WHEN keeps THEN o.nonce END,
                    CASE WHEN keeps THEN o.by_id END,
                    CASE WHEN keeps THEN o.reason ELSE '' END
                FROM (SELECT o.explanation <> ''
                    AND (o.sender, o.receiver, o.amount_units)
                        = (EXCLUDED.sender, EXCLUDED.receiver, EXCLUDED.amount_units)
                    AND (o.orphaned_at IS NULL OR NOT EXISTS (
                        SELECT FROM escrow_outflow AS twin
                        WHERE twin.id <> o.id AND (
                            twin.withdrawal_id = o.withdrawal_id OR (twin.sender, twin.nonce) = (o.sender, o.nonce)
                        )
                    )) AS keeps) AS said
            )
            WHERE o.block_hash <> EXCLUDED.block_hash OR o.orphaned_at IS NOT NULL
            RETURNING o.id
            """,
            [here.chain_id, at, *(list(column) for column in zip(*rows, strict=True))],
        )
        return len(cursor.fetchall())


def orphan(*, chain_id: int, above: int, at: datetime) -> int:
    """
    Mark what left in blocks above a height as gone with them, in the caller's transaction; answer how many.

    What was said of it stays with it until its log comes back.
    """
    return Outflow.objects.filter(chain_id=chain_id, block_number__gt=above, orphaned_at=None).update(orphaned_at=at)


def _explained(internal: bool, at: datetime) -> tuple[str, datetime | None]:
    return (str(Explanation.INTERNAL), at) if internal else (str(Explanation.UNEXPLAINED), None)


def _require_orphaned(here: network.Network, leaving: Sequence[usdc.Transfer]) -> None:
    """
    A transfer that was explained goes with its block first; then its row may stand for another one.

    :raises ChainNotTrusted: if one of them is shown as another transfer while its block still stands
    """
    shown = {one.log_key: (one.sender, one.receiver, one.amount_units) for one in leaving}
    explained = Outflow.objects.filter(
        chain_id=here.chain_id, tx_hash__in=[one.tx_hash for one in leaving], orphaned_at=None
    ).exclude(explanation=Explanation.UNEXPLAINED)
    for row in explained:
        known: tuple[Any, ...] = (row.sender, row.receiver, row.amount_units)
        if shown.get((row.tx_hash, row.log_index), known) != known:
            raise rpc.ChainNotTrusted("an explained outflow is shown as another transfer", reason="log_changed")
