"""What happened on an agent's own accounts, newest first. Amounts are micro-USDC."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection

NEWEST = 2**63 - 1
CHUNK = 1_000

_JOB = re.compile(r"job:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):")


class Line(NamedTuple):
    """One entry on one of the agent's accounts: available, withdrawing or stake."""

    id: int
    occurred_at: datetime
    kind: str
    amount_units: int
    balance_after_units: int
    account: str
    reference: str

    @property
    def job_id(self) -> str | None:
        """The job whose money moved, where the reference names one."""
        found = _JOB.match(self.reference)
        return found[1] if found else None


def lines(agent_id: UUID, *, before: int = NEWEST, limit: int) -> list[Line]:
    """Read up to `limit` lines that are older than the entry `before`; costs the same at any depth."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT own.id, transfer.occurred_at, transfer.kind, own.amount, own.balance_after, own.account,
                   transfer.reference
            FROM (
                SELECT account.kind AS account, entry.*
                FROM escrow_ledgeraccount account
                CROSS JOIN LATERAL (
                    SELECT id, transfer_id, amount, balance_after FROM escrow_entry
                    WHERE account_id = account.id AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s
                ) AS entry
                WHERE account.owner_key = %(owner_key)s AND account.kind IN ('available', 'withdrawing', 'stake')
                ORDER BY entry.id DESC LIMIT %(limit)s
            ) AS own
            JOIN escrow_transfer transfer ON transfer.id = own.transfer_id
            ORDER BY own.id DESC
            """,
            {"owner_key": str(agent_id), "before": before, "limit": limit},
        )
        return [Line(*row) for row in cursor.fetchall()]


def everything(agent_id: UUID) -> Iterator[Line]:
    """Read all lines in chunks, so that neither memory nor a database cursor is held while a slow reader reads."""
    before = NEWEST
    while chunk := lines(agent_id, before=before, limit=CHUNK):
        yield from chunk
        before = chunk[-1].id
