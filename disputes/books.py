"""What must be true between cases and the deposits that are held for them. Registered in `DisputesConfig.ready()`."""

from escrow import books

# A live case holds what it says for its opening and for its appeal, a closed one nothing.
_DEPOSITS = """
    WITH said AS (
        SELECT 'deposit of case ' || id AS subject, 'dispute:' || id || ':opening' AS owner_key,
               CASE WHEN closed_at IS NULL THEN deposit_held_units ELSE 0 END AS units
        FROM disputes_dispute
        UNION ALL
        SELECT 'appeal deposit of case ' || d.id, 'dispute:' || d.id || ':appeal',
               CASE WHEN d.closed_at IS NULL THEN coalesce(appeal.deposit_held_units, 0) ELSE 0 END
        FROM disputes_dispute d LEFT JOIN disputes_appeal appeal ON appeal.dispute_id = d.id
    )
    SELECT said.subject, said.units, coalesce(a.balance, 0)
    FROM said
    LEFT JOIN escrow_ledgeraccount a ON a.kind = 'dispute_deposit' AND a.owner_key = said.owner_key
    WHERE coalesce(a.balance, 0) <> said.units
"""


def register() -> None:
    """Hand the invariants to the books."""
    books.register("a live case holds its deposits, a closed one nothing", _DEPOSITS, recent=_DEPOSITS)
