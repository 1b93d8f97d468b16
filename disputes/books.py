"""What must be true between cases and the deposits that are held for them. Registered in `DisputesConfig.ready()`."""

from escrow import books

# A live case holds what it says, a closed one nothing.
_DEPOSITS = """
    SELECT 'deposit of case ' || d.id, CASE WHEN d.closed_at IS NULL THEN d.deposit_held_units ELSE 0 END,
           coalesce(a.balance, 0)
    FROM disputes_dispute d
    LEFT JOIN escrow_ledgeraccount a ON a.kind = 'dispute_deposit' AND a.owner_key = 'dispute:' || d.id || ':opening'
    WHERE coalesce(a.balance, 0) <> CASE WHEN d.closed_at IS NULL THEN d.deposit_held_units ELSE 0 END
"""


def register() -> None:
    """Hand the invariant to the books."""
    books.register("a live case holds its deposit, a closed one nothing", _DEPOSITS, recent=_DEPOSITS)
