"""
Reading what an agent was told, without gaps.

Ids are drawn before their transactions commit, so a lower id may appear after a higher one. The order of reading is
therefore (epoch, xid, id), and only as far as no transaction is open that could still add a row before: below
`pg_snapshot_xmin` of the reading statement. Transaction ids begin anew in a restored database, in a higher epoch.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from accounts.errors import Invalid, NotFound

_CURSOR = re.compile(r"([0-9]{1,9})\.([0-9]{1,19})\.([0-9]{1,18})", re.ASCII)


class Gone(NotFound):
    title = "The event is older than events are kept"


class Cursor(NamedTuple):
    """A place between two events."""

    epoch: int
    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.xid}.{self.id}"


START = Cursor(0, 0, 0)


class Told(NamedTuple):
    """An event as its recipient reads it."""

    cursor: Cursor
    type: str
    data: dict[str, Any]
    occurred_at: datetime


def read(agent_id: UUID, *, after: Cursor = START, types: Sequence[str] = (), limit: int) -> list[Told]:
    """Read what an agent was told after a cursor, in the order in which it can be relied upon; one statement."""
    asked: dict[str, Any] = {"agent": agent_id, "epoch": after.epoch, "xid": str(after.xid), "id": after.id}
    with connection.cursor() as cursor:
        cursor.execute(_READ, asked | {"types": list(types), "limit": limit})
        return [_told(*row) for row in cursor.fetchall()]


def find(event_id: int, epoch: int, recorded_at: datetime) -> Told:
    """
    Read one event, whose month `recorded_at` names; by then its transaction is committed.

    :raises Gone: if it is no longer kept
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT epoch, xid::text, id, type, data, occurred_at FROM accounts_event"
            " WHERE id = %s AND recorded_at = %s AND epoch = %s",
            [event_id, recorded_at, epoch],
        )
        row = cursor.fetchone()
    if row is None:
        raise Gone
    return _told(*row)


def cursor_of(text: str) -> Cursor:
    """
    Read a cursor as it was written.

    :raises Invalid: if it is none
    """
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise Invalid.at("/after", "invalid_cursor", "Use the `cursor` of an event, or a `next_cursor`.")
    return Cursor(*(int(part) for part in found.groups()))


# The epoch of the cursor and those after it apart: of three columns compared at once the planner guesses by the first,
# which is the same in all rows, and would sort all that follows to answer a hundred. Ordered by the table's `xid`: the
# name alone is the text that is selected, in whose order 10 comes before 9.
_SOME = """
    SELECT event.* FROM accounts_event event
    WHERE recipient_id = %(agent)s AND {after}
        AND (epoch < accounts_event_epoch() OR xid < pg_snapshot_xmin(pg_current_snapshot()))
        AND (%(types)s::text[] = '{{}}' OR type = ANY(%(types)s::text[]))
    ORDER BY {order} LIMIT %(limit)s
"""
_SAME_EPOCH = _SOME.format(after="epoch = %(epoch)s AND (xid, id) > (%(xid)s::xid8, %(id)s)", order="xid, id")
_LATER_EPOCHS = _SOME.format(after="epoch > %(epoch)s", order="epoch, xid, id")
_READ = f"""
    SELECT told.epoch, told.xid::text, told.id, told.type, told.data, told.occurred_at
    FROM (({_SAME_EPOCH}) UNION ALL ({_LATER_EPOCHS})) told
    ORDER BY told.epoch, told.xid, told.id LIMIT %(limit)s
"""


def _told(epoch: int, xid: str, number: int, kind: str, data: Any, occurred_at: datetime) -> Told:
    return Told(Cursor(epoch, int(xid), number), kind, _decoded(data), occurred_at)


def _decoded(data: Any) -> dict[str, Any]:
    # Django leaves jsonb as text outside the ORM.
    return json.loads(data) if isinstance(data, str) else data
