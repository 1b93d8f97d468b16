"""The platform's own money: its fees, in the accounts that share them, and penalties. Amounts are micro-USDC."""

from django.db import connection

from escrow import ledger
from escrow.ledger import Move
from escrow.models import Kind, LedgerAccount


def units() -> int:
    """What the platform has earned and not yet paid out."""
    return sum(account.balance for account in _accounts())


def taken(amount_units: int) -> list[Move]:
    """
    The moves that take this much out of income, the fullest accounts first.

    One at a time until the transaction ends: two could count on the same accounts.

    :raises ledger.InsufficientFunds: if there is not as much
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('income.taken'))")
    moves, left = [], amount_units
    for account in _accounts():
        part = min(account.balance, left)
        if part:
            moves.append(Move(account.kind, account.owner_key, -part))
            left -= part
    if left:
        raise ledger.InsufficientFunds(account=(Kind.FEES, ledger.PLATFORM), short_by_units=left)
    return moves


def _accounts() -> list[LedgerAccount]:
    return list(LedgerAccount.objects.filter(kind__in=[Kind.FEES, Kind.PENALTIES], balance__gt=0).order_by("-balance"))
