"""
What must be true between jobs and the money that is held for them. Registered in `MarketplaceConfig.ready()`.
"""

from uuid import UUID

from django.db import connection

from escrow import books, wallet
from marketplace import lifecycle

_HELD = ", ".join(f"'{state}'" for state in sorted(lifecycle.HELD))

_AGREED = f"""
    SELECT 'hold' AS kind, 'job:' || id AS owner_key, price_units AS units
    FROM marketplace_job WHERE state IN ({_HELD})
    UNION ALL
    SELECT 'bond', 'job:' || id, bond_units FROM marketplace_job WHERE state IN ({_HELD})
"""
_LIVE = """
    SELECT agreed.kind || ' of ' || agreed.owner_key, agreed.units, coalesce(a.balance, 0)
    FROM ({agreed}) AS agreed
    LEFT JOIN escrow_ledgeraccount a ON a.kind = agreed.kind AND a.owner_key = agreed.owner_key
    WHERE agreed.units <> coalesce(a.balance, 0)
"""
_OTHERS = """
    SELECT a.kind || ' of ' || a.owner_key, 0, a.balance
    FROM escrow_ledgeraccount a
    WHERE a.kind IN ('hold', 'bond') AND a.balance <> 0 AND NOT EXISTS (
        SELECT FROM ({agreed}) AS agreed WHERE agreed.kind = a.kind AND agreed.owner_key = a.owner_key
    )
"""


def register() -> None:
    """
    Hand the invariants to the books, and the holds to the wallet.

    Both read live jobs and accounts that are not empty, whatever the entries say: a job may be wrong without one.
    """
    live, others = _LIVE.format(agreed=_AGREED), _OTHERS.format(agreed=_AGREED)
    books.register("a live job holds exactly its price and its bond", live, recent=live)
    books.register("a job that is over, unfunded or unknown holds nothing", others, recent=others)
    wallet.pledges.register(pledged)


def pledged(agent_id: UUID) -> wallet.Pledged:
    """Add up the prices an agent has in holds as client, and its bonds as seller."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT coalesce(sum(price_units) FILTER (WHERE client_id = %(agent)s), 0)::bigint,
                   coalesce(sum(bond_units) FILTER (WHERE seller_id = %(agent)s), 0)::bigint
            FROM marketplace_job
            WHERE (client_id = %(agent)s OR seller_id = %(agent)s) AND state IN ({_HELD})
            """,
            {"agent": agent_id},
        )
        return wallet.Pledged(*cursor.fetchone())
