"""
Where many readers stand in what their agents were told: one statement for all of them.

What is readable, and in which order, is that of `accounts.events.feed`.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from accounts.events.feed import Cursor, Told


class Place(NamedTuple):
    """A reader: whose events, of which types (empty: of all), and after which."""

    agent_id: UUID
    types: tuple[str, ...]
    cursor: Cursor


class Look(NamedTuple):
    """Which places have news (positions in the list), and up to where the others have none."""

    news: frozenset[int]
    until: Cursor


def now() -> Cursor:
    """Find the place behind everything that is readable; whatever is committed from now on comes after it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_NOW}")
        epoch, xid = cursor.fetchone()
    return Cursor(epoch, int(xid), 0)


def look(places: Sequence[Place]) -> Look:
    """Find out who has something to read, without reading it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_NOW}, ARRAY(SELECT place.position FROM {_PLACES}"
            f" WHERE EXISTS (SELECT FROM accounts_event event WHERE {_READABLE}))",
            _columns(places),
        )
        epoch, xid, positions = cursor.fetchone()
    return Look(frozenset(position - 1 for position in positions), Cursor(epoch, int(xid), 0))


def read(places: Sequence[Place], *, limit: int) -> list[list[Told]]:
    """Read for each place what comes next, `limit` events at most for each."""
    found: list[list[Told]] = [[] for _ in places]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT place.position, told.epoch, told.xid::text, told.id, told.type, told.data::text, told.occurred_at"
            f" FROM {_PLACES} CROSS JOIN LATERAL ("
            f"  SELECT epoch, xid, event.id, type, data, occurred_at FROM accounts_event event WHERE {_READABLE}"
            "   ORDER BY event.epoch, event.xid, event.id LIMIT %s"
            " ) told ORDER BY place.position, told.epoch, told.xid, told.id",
            [*_columns(places), limit],
        )
        for position, epoch, xid, number, kind, data, occurred_at in cursor.fetchall():
            found[position - 1].append(Told(Cursor(epoch, int(xid), number), kind, json.loads(data), occurred_at))
    return found


def _columns(places: Sequence[Place]) -> list[list[object]]:
    return [
        [place.agent_id for place in places],
        [",".join(place.types) for place in places],
        [place.cursor.epoch for place in places],
        [str(place.cursor.xid) for place in places],
        [place.cursor.id for place in places],
    ]


_NOW = "accounts_event_epoch(), pg_snapshot_xmin(pg_current_snapshot())::text"
_PLACES = (
    "unnest(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::bigint[])"
    " WITH ORDINALITY AS place (agent_id, types, epoch, xid, id, position)"
)
_READABLE = (
    "event.recipient_id = place.agent_id"
    " AND (event.epoch, event.xid, event.id) > (place.epoch, place.xid::xid8, place.id)"
    " AND (event.epoch < accounts_event_epoch() OR event.xid < pg_snapshot_xmin(pg_current_snapshot()))"
    " AND (place.types = '' OR event.type = ANY(string_to_array(place.types, ',')))"
)
