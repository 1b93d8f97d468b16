"""
The ledger: the only writer of balances. Amounts are integers of micro-USDC.

Every movement of money inside the platform is one call of `post`, which is one statement: the PL/pgSQL function
`ledger_post` (migrations/sql/0001_ledger.sql) locks, refuses and writes. Call it last in a transaction, and once:
ledger accounts are the end of the lock order.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import NamedTuple

from django.db import DatabaseError, connection

from accounts.errors import DomainError

PLATFORM = "platform"

# Completions at once would queue up behind one row of fee income, so there are several; `balance` sums them.
FEE_SHARDS = 16


class Move(NamedTuple):
    """What one account gains (> 0) or gives (< 0) in a transfer."""

    kind: str
    owner_key: str
    amount_units: int


class Posting(NamedTuple):
    """The transfer that holds the moves, and whether an earlier post had made it."""

    transfer_id: int
    replayed: bool


class InsufficientFunds(DomainError):
    """An account would fall below zero. Only ever shown to the account's own agent: it tells the shortage."""

    status = 402
    code = "insufficient_funds"
    title = "The balance does not cover this"

    def __init__(self, *, account: tuple[str, str], short_by_units: int) -> None:
        self.account = account
        self.short_by_units = short_by_units
        super().__init__(short_by=f"{short_by_units // 1_000_000}.{short_by_units % 1_000_000:06}")


class LedgerMisuse(Exception):
    """The caller asked for a transfer that cannot be: our bug, never an agent's."""


class ReferenceReused(LedgerMisuse):
    """The reference belongs to a transfer with other moves or of another kind."""


class Unbalanced(LedgerMisuse):
    """The moves do not sum to zero."""


class Malformed(LedgerMisuse):
    """Fewer than two moves, a zero amount, or an unknown kind of account."""


def post(
    reference: str,
    *,
    kind: str,
    moves: Sequence[Move],
    actor: str = "system",
    memo: str = "",
    at: datetime,
) -> Posting:
    """
    Move money between accounts, all of it or nothing, once per reference.

    Accounts come into being when first named. Moves of one account are merged into one entry. The same moves under
    the same reference again answer the earlier transfer.

    :raises InsufficientFunds: if an account that may not be negative would be; names the first in the order of moves
    :raises ReferenceReused: if the reference exists with other moves
    :raises Unbalanced: if the moves do not sum to zero
    :raises Malformed: if there are fewer than two moves, one is zero, or an account is of no known kind
    """
    moves = merged(moves)
    with _refusals(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT transfer_id, replayed FROM ledger_post(%s, %s, %s::text[], %s::text[], %s::bigint[], %s, %s, %s)",
            [
                reference,
                kind,
                [str(move.kind) for move in moves],
                [move.owner_key for move in moves],
                [move.amount_units for move in moves],
                actor,
                memo,
                at,
            ],
        )
        posting = Posting(*cursor.fetchone())
    recorded = _recorded.get()
    if recorded is not None:
        recorded.extend(moves)
    return posting


def merged(moves: Sequence[Move]) -> list[Move]:
    """Add up the moves of each account, in the order in which the accounts first appear."""
    amounts: dict[tuple[str, str], int] = {}
    for kind, owner_key, amount_units in moves:
        account = (kind, owner_key)
        amounts[account] = amounts.get(account, 0) + amount_units
    return [Move(kind, owner_key, amount_units) for (kind, owner_key), amount_units in amounts.items()]


def fee_account(reference: str) -> tuple[str, str]:
    """Choose the account that takes the fee of this reference: always the same one, so a replay is identical."""
    return "fees", f"{PLATFORM}:{hashlib.sha256(reference.encode()).digest()[0] % FEE_SHARDS}"


def balance(kind: str, owner_key: str) -> int:
    """Read what an account holds, zero where there is none; `platform` means all its accounts of that kind."""
    return balances(owner_key, [kind])[kind]


def balances(owner_key: str, kinds: Sequence[str]) -> dict[str, int]:
    """Read what an owner's accounts of these kinds hold."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, sum(balance)::bigint FROM escrow_ledgeraccount"
            " WHERE kind = ANY(%s::text[]) AND owner_key = ANY(%s::text[]) GROUP BY kind",
            [[str(kind) for kind in kinds], _owner_keys(owner_key)],
        )
        return dict.fromkeys(kinds, 0) | dict(cursor.fetchall())


@contextmanager
def recording() -> Iterator[list[Move]]:
    """Collect the moves that are posted inside, for a preview that rolls back."""
    moves: list[Move] = []
    token = _recorded.set(moves)
    try:
        yield moves
    finally:
        _recorded.reset(token)


_recorded: ContextVar[list[Move] | None] = ContextVar("recorded", default=None)


def _owner_keys(owner_key: str) -> list[str]:
    return (
        [owner_key, *(f"{PLATFORM}:{shard}" for shard in range(FEE_SHARDS))] if owner_key == PLATFORM else [owner_key]
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn the SQLSTATEs of `ledger_post` into exceptions."""
    try:
        yield
    except DatabaseError as error:
        sqlstate = getattr(error.__cause__, "sqlstate", "")
        if sqlstate == "BL001":
            raise _insufficient(error) from error
        if sqlstate in _MISUSES:
            raise _MISUSES[sqlstate](str(error).partition("\n")[0]) from error
        raise


_MISUSES: Mapping[str | None, type[LedgerMisuse]] = {"BL002": ReferenceReused, "BL003": Unbalanced, "BL004": Malformed}


def _insufficient(error: DatabaseError) -> InsufficientFunds:
    detail = json.loads(error.__cause__.diag.message_detail)  # type: ignore[union-attr]
    return InsufficientFunds(account=(detail["kind"], detail["owner_key"]), short_by_units=detail["short_by"])
