"""
Spending caps of tokens (trust.md, section 1).

A cap counts per family, so that rotating a token does not begin a new day, and per UTC day.
"""

from datetime import UTC, datetime
from typing import Any

from django.db import connection

from accounts import clock
from accounts.edge.fields import units_to_text
from accounts.errors import DomainError
from accounts.models import Token


class SpendingCapExceeded(DomainError):
    status = 403
    code = "spending_cap_exceeded"
    title = "The token may not spend this much"


def spend(token: Token | None, *, units: int, at: datetime | None = None) -> None:
    """
    Count `units` (micro-USDC) against the caps of a token, in the transaction that spends them.

    No statement is sent for a token without caps, nor for one person's act without any token.

    :raises SpendingCapExceeded: if it is more than the token may spend on one job, or has left for the day
    """
    if token is None or units <= 0:
        return
    if token.max_per_job_units is not None and units > token.max_per_job_units:
        raise _exceeded("max_per_job", token.max_per_job_units)
    if token.max_per_day_units is not None and not _counted(token, units=units, at=at or clock.now()):
        raise _exceeded("max_per_day", token.max_per_day_units)


def _counted(token: Token, *, units: int, at: datetime) -> bool:
    """Add to the family's day, unless that would pass the cap: compare and set, the row locked until the commit."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_tokenfamily SET spending_day = greatest(spending_day, %(day)s),"
            " spent_units = %(units)s + CASE WHEN spending_day >= %(day)s THEN spent_units ELSE 0 END"
            " WHERE id = %(family)s"
            " AND %(units)s + CASE WHEN spending_day >= %(day)s THEN spent_units ELSE 0 END <= %(cap)s",
            {
                "day": at.astimezone(UTC).date(),
                "units": units,
                "family": token.family_id,
                "cap": token.max_per_day_units,
            },
        )
        return cursor.rowcount == 1


def _exceeded(cap: str, units: int) -> SpendingCapExceeded:
    members: dict[str, Any] = {"cap": cap, "limit": units_to_text(units)}
    return SpendingCapExceeded(f"`{cap}` of this token is {units_to_text(units)} USDC.", **members)
