"""What the platform owes and what it holds, for everyone to see. Amounts are integers of micro-USDC."""

import json
from datetime import datetime
from typing import NamedTuple

from django.db import connection


class Holdings(NamedTuple):
    """What the chain held when the treasury watch last looked; the difference is zero when the books agree with it."""

    treasury_units: int
    cold_units: int
    unswept_units: int
    difference_units: int
    block: int
    block_at: datetime
    read_at: datetime

    @property
    def units(self) -> int:
        return self.treasury_units + self.cold_units + self.unswept_units


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
    chain: Holdings | None


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
                   max(chain.chain_id), max(chain.block_number),
                   (SELECT jsonb_build_array(treasury_units, cold_units, unswept_units, difference_units,
                                             block_number, block_at, read_at)::text
                    FROM escrow_treasuryreading ORDER BY read_at DESC LIMIT 1)
            FROM escrow_ledgeraccount
            FULL JOIN (
                SELECT chain_id, block_number FROM escrow_scancursor ORDER BY read_at DESC LIMIT 1
            ) AS chain ON false
            """
        )
        row = cursor.fetchone()
    return Solvency._make((*row[:-1], _holdings(row[-1])))


def _holdings(seen: str | None) -> Holdings | None:
    if seen is None:
        return None
    treasury, cold, unswept, difference, block, *times = json.loads(seen)
    block_at, read_at = map(datetime.fromisoformat, times)
    return Holdings(treasury, cold, unswept, difference, block, block_at, read_at)
