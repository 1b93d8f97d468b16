"""What the treasury watch read: kept each minute for two days, each hour for four hundred."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection

from accounts import clock
from escrow.chain import addresses
from escrow.custody import Custody
from escrow.models import TreasuryReading

EACH_MINUTE = timedelta(days=2)
EACH_HOUR = timedelta(days=400)


def keep(found: Custody) -> TreasuryReading:
    """Write a reading down."""
    return TreasuryReading.objects.create(
        chain_id=found.chain_id,
        block_number=found.block,
        block_at=found.block_at,
        treasury_units=found.treasury_units,
        cold_units=found.cold_units,
        unswept_units=found.unswept_units,
        custody_units=found.custody_units,
        liabilities_units=found.liabilities_units,
        shortfall_units=found.shortfall_units,
        difference_units=found.difference_units,
        pending_units=found.pending_units,
        relayers={addresses.to_text(address): str(wei) for address, wei in found.relayers.items()},
        read_at=clock.now(),
    )


def newest() -> TreasuryReading | None:
    """The last reading, None if there never was one."""
    return TreasuryReading.objects.order_by("-read_at").first()


def thin(at: datetime | None = None) -> int:
    """Forget all but the first reading of each hour after two days, and everything in the end; answer how many."""
    at = at or clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM escrow_treasuryreading WHERE read_at < %s OR id IN (
                SELECT id FROM (
                    SELECT id, row_number() OVER (
                        PARTITION BY chain_id, date_trunc('hour', read_at) ORDER BY read_at, id
                    ) AS place
                    FROM escrow_treasuryreading WHERE read_at < %s
                ) AS old WHERE place > 1
            )
            """,
            [at - EACH_HOUR, at - EACH_MINUTE],
        )
        return cursor.rowcount
