"""
The books: what must be true of all money at any moment, read back from the rows themselves.

An invariant is a query that finds what breaks it: rows of (subject, expected, found). The ones of the ledger are here;
the apps above, and the chain, register theirs by name in `AppConfig.ready()`. In `recent`, `%(after)s` is the newest
entry that earlier runs have answered for.
"""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from django.db import connection

from accounts import clock
from escrow.models import BooksCheckpoint

log = logging.getLogger(__name__)

# SQL of (subject, expected, found); or, where rows alone cannot tell, a function that yields such rows.
Finding = tuple[object, object, object]
Query = str | Callable[[], Iterable[Finding]]


class Mismatch(NamedTuple):
    """Where the books are wrong. Amounts are micro-USDC."""

    invariant: str
    subject: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.subject}: expected {self.expected}, found {self.found}"


class Invariant(NamedTuple):
    """What the full check asks, and what the incremental one does; `None` leaves it to the full check."""

    name: str
    full: Query
    recent: Query | None


invariants: dict[str, Invariant] = {}


def register(name: str, full: Query, *, recent: Query | None = None) -> None:
    """Add an invariant; the same name again replaces it."""
    invariants[name] = Invariant(name, full, recent)


def check(*, full: bool = True, after: int = 0) -> list[Mismatch]:
    """Find everything that is wrong with the books: all of it, or what the entries `after` an id can have broken."""
    asked = [(each.name, each.full if full else each.recent) for each in invariants.values()]
    queries = [(name, query) for name, query in asked if isinstance(query, str)]
    mismatches = _ask(queries, after) if queries else []
    for name, query in asked:
        if callable(query):
            mismatches += [Mismatch(name, *(str(value) for value in finding)) for finding in query()]
    return mismatches


def check_recent() -> list[Mismatch]:
    """
    Check what changed since the run before the last, and move the checkpoint when all is well.

    Two runs at once read the same rows; the one that is later finds the checkpoint moved and leaves it.
    """
    checkpoint, _ = BooksCheckpoint.objects.get_or_create(id=1)
    newest_entry_id = _newest_entry_id()
    mismatches = check(full=False, after=checkpoint.checked_entry_id)
    if not mismatches:
        unmoved = BooksCheckpoint.objects.filter(id=1, seen_entry_id=checkpoint.seen_entry_id)
        unmoved.update(checked_entry_id=checkpoint.seen_entry_id, seen_entry_id=newest_entry_id, checked_at=clock.now())
    return mismatches


def report(mismatches: list[Mismatch]) -> None:
    """Tell the operators."""
    for mismatch in mismatches:
        log.error("books_mismatch invariant=%r %s", mismatch.invariant, mismatch)


def _ask(queries: list[tuple[str, str]], after: int) -> list[Mismatch]:
    """Ask every query in one statement: one round trip, one snapshot."""
    statement = "\nUNION ALL\n".join(
        f"SELECT {position}, subject::text, expected::text, found::text"
        f" FROM ({query}) AS broken (subject, expected, found)"
        for position, (_, query) in enumerate(queries)
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, {"after": after})
        return [Mismatch(queries[position][0], *finding) for position, *finding in cursor.fetchall()]


def _newest_entry_id() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM escrow_entry")
        return cursor.fetchone()[0]


# --- the ledger's own -----------------------------------------------------------------------------------------------
_ALL_BALANCES = """
    SELECT 'all accounts', 0, sum(balance) FROM escrow_ledgeraccount HAVING sum(balance) <> 0
"""
_NEGATIVE = """
    SELECT kind || ' of ' || owner_key, 'at least 0', balance FROM escrow_ledgeraccount
    WHERE balance < 0 AND kind NOT IN ('shortfall', 'custody')
"""
_TRANSFERS = """
    SELECT t.reference, t.entry_count || ' entries that sum to 0',
           count(e.id) || ' entries that sum to ' || coalesce(sum(e.amount), 0)
    FROM escrow_transfer t LEFT JOIN escrow_entry e ON e.transfer_id = t.id {where}
    GROUP BY t.id HAVING count(e.id) <> t.entry_count OR coalesce(sum(e.amount), 0) <> 0
"""
_SUMS = """
    SELECT a.kind || ' of ' || a.owner_key, coalesce(sum(e.amount), 0), a.balance
    FROM escrow_ledgeraccount a LEFT JOIN escrow_entry e ON e.account_id = a.id
    GROUP BY a.id HAVING a.balance <> coalesce(sum(e.amount), 0)
"""
_LAST_BALANCE = """
    SELECT a.kind || ' of ' || a.owner_key, coalesce(e.balance_after, 0), a.balance
    FROM escrow_ledgeraccount a LEFT JOIN escrow_entry e ON e.account_id = a.id AND e.account_version = a.version
    WHERE a.balance <> coalesce(e.balance_after, 0) {where}
"""
_VERSIONS = """
    SELECT a.kind || ' of ' || a.owner_key, 'versions 1 to ' || a.version,
           count(e.id) || ' versions, ' || coalesce(min(e.account_version), 0)
           || ' to ' || coalesce(max(e.account_version), 0)
    FROM escrow_ledgeraccount a LEFT JOIN escrow_entry e ON e.account_id = a.id
    GROUP BY a.id
    HAVING count(e.id) <> a.version OR coalesce(max(e.account_version), 0) <> a.version
        OR (a.version > 0 AND min(e.account_version) <> 1)
"""
_RUNNING_BALANCE = """
    SELECT 'entry ' || e.id, coalesce(before.balance_after, 0) + e.amount, e.balance_after
    FROM escrow_entry e LEFT JOIN escrow_entry before
        ON before.account_id = e.account_id AND before.account_version = e.account_version - 1
    WHERE (e.balance_after <> coalesce(before.balance_after, 0) + e.amount
        OR (before.id IS NULL AND e.account_version <> 1)) {where}
"""
# What the recent entries touched.
_THEIR_TRANSFERS = "WHERE t.id IN (SELECT transfer_id FROM escrow_entry WHERE id > %(after)s)"
_THEIR_ACCOUNTS = "AND a.id IN (SELECT account_id FROM escrow_entry WHERE id > %(after)s)"

register("all balances sum to zero", _ALL_BALANCES, recent=_ALL_BALANCES)
register("only custody and shortfall are negative", _NEGATIVE, recent=_NEGATIVE)
register(
    "the entries of a transfer sum to zero",
    _TRANSFERS.format(where=""),
    recent=_TRANSFERS.format(where=_THEIR_TRANSFERS),
)
register("a balance is the sum of its entries", _SUMS)
register(
    "a balance is the last balance_after",
    _LAST_BALANCE.format(where=""),
    recent=_LAST_BALANCE.format(where=_THEIR_ACCOUNTS),
)
register("versions run from 1 without gaps", _VERSIONS)
register(
    "a balance_after is the one before plus the amount",
    _RUNNING_BALANCE.format(where=""),
    recent=_RUNNING_BALANCE.format(where="AND e.id > %(after)s"),
)
