"""What the platform owes and what it holds, for everyone to see. Amounts are integers of micro-USDC."""

from typing import NamedTuple

from django.db import connection


class Solvency(NamedTuple):
    """
    The books at one moment, read in one snapshot.

    Liabilities are all balances the platform answers for, its own income among them; custody is what the ledger says
    the chain holds; shortfall is what is missing between the two, zero in a healthy system. The block is the newest
    the deposits are complete for.
    """

    liabilities_units: int
    custody_units: int
    shortfall_units: int
    last_transfer_id: int
    last_entry_id: int
    chain_id: int | None
    as_of_block: int | None


def read() -> Solvency:
    """Read the books for the public."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(sum(balance) FILTER (WHERE kind NOT IN ('custody', 'shortfall')), 0)::bigint,
                   coalesce(-sum(balance) FILTER (WHERE kind = 'custody'), 0)::bigint,
                   coalesce(-sum(balance) FILTER (WHERE kind = 'shortfall'), 0)::bigint,
                   (SELECT coalesce(max(id), 0) FROM escrow_transfer),
                   (SELECT coalesce(max(id), 0) FROM escrow_entry),
                   max(chain.chain_id), max(chain.block_number)
            FROM escrow_ledgeraccount
            FULL JOIN (
                SELECT chain_id, block_number FROM escrow_scancursor ORDER BY read_at DESC LIMIT 1
            ) AS chain ON false
            """
        )
        return Solvency(*cursor.fetchone())
