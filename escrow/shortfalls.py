"""Recorded losses, and their end: the platform's own income makes them good. Amounts are micro-USDC."""

from datetime import datetime

from django.db import connection, transaction

from accounts import audit, clock, ids
from accounts.edge.fields import units_to_text
from accounts.errors import Conflict, Invalid
from accounts.models import User
from escrow import income, ledger, withdrawals
from escrow.ledger import Move, Posting


class NotCoverable(Conflict):
    code = "not_coverable"
    title = "There is not as much to cover"


def coverable_units() -> int:
    """What is lost for good: agents repay by their next deposits what a reversal could not take from them."""
    with connection.cursor() as cursor:  # one statement: a reversal changes both at once
        cursor.execute(
            """
            SELECT greatest(-coalesce(sum(balance), 0)
                            - (SELECT coalesce(sum(shortfall_units), 0) FROM escrow_deposit), 0)::bigint
            FROM escrow_ledgeraccount WHERE kind = 'shortfall'
            """
        )
        return cursor.fetchone()[0]


@transaction.atomic
def cover(*, amount_units: int, by: User, note: str, at: datetime | None = None) -> Posting:
    """
    Make a recorded loss good with fees and penalties: then the ledger says again what the chain holds for others.

    :raises NotAllowed: if the person is no treasurer; :raises Invalid: without a note, or for nothing
    :raises NotCoverable: for more than is lost; :raises ledger.InsufficientFunds: for more than was earned
    """
    withdrawals.require_treasurer(by)
    withdrawals.require_note(note)
    if amount_units <= 0:
        raise Invalid.at("/amount", "below_minimum", "More than nothing.")
    moves = income.taken(amount_units)  # one at a time from here on
    most_units = coverable_units()
    if amount_units > most_units:
        raise NotCoverable(f"{units_to_text(most_units)} USDC are lost for good.", coverable=units_to_text(most_units))
    at = at or clock.now()
    posting = ledger.post(
        f"shortfall:{ids.uuid7()}:cover",
        kind="shortfall_cover",
        moves=[*moves, Move("shortfall", ledger.PLATFORM, amount_units)],
        actor=f"user:{by.pk}",
        memo=note[:500],
        at=at,
    )
    facts = {"amount_units": amount_units}
    audit.record(
        "shortfall.covered", user=by, subject=f"transfer:{posting.transfer_id}", facts=facts, reason=note, at=at
    )
    return posting
