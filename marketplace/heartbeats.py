"""
Heartbeats: when each part of the platform was last seen at work. A part without one is unknown, and none misses it.

Silence is judged by the database's clock alone, whatever moment a verb is told: a heartbeat is real or it is none.
"""

from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.db import connection

from escrow import cursors

BEAT, REDIS, WORKER, CHAIN = "beat", "redis", "worker", "chain"
PARTS = (BEAT, REDIS, WORKER, CHAIN)

# A part that was not heard of for so long may have been away since: an incident that a person declares begins there.
QUIET_SECONDS = 15


class Silence(NamedTuple):
    """A part that is silent, and when it was last seen."""

    part: str
    since: datetime


def beat(part: str, *, at: datetime | None = None) -> bool:
    """
    Write down that a part is at work, at most once a second; False if there is an incident to record first.

    That is one statement. It waits for nobody: what is fresh is written without the lock of incidents.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BEAT, {"part": part, "at": at, "after": settings.INCIDENT_AFTER_SECONDS})
        return not cursor.fetchone()[0]


def come_back(part: str, *, at: datetime) -> None:
    """Write down that a part is at work again, whatever it was before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO marketplace_heartbeat AS h (part, at) VALUES (%s, %s)"
            " ON CONFLICT (part) DO UPDATE SET at = greatest(h.at, EXCLUDED.at)",
            [part, at],
        )


def silent(*, seconds: int | None = None, lock: bool = False) -> list[Silence]:
    """
    List the parts that are silent for longer than `seconds` (by default those that make an incident), longest first.

    Not those whose silence had its incident, which was ended: by a person, or because money never locks. `lock` makes
    a part that is just about to be seen go first.
    """
    after = settings.INCIDENT_AFTER_SECONDS if seconds is None else seconds
    with connection.cursor() as cursor:
        cursor.execute(_SILENT + (" FOR NO KEY UPDATE OF h" if lock else ""), [after])
        return [Silence(*row) for row in cursor.fetchall()]


def chain_read_at() -> datetime | None:
    """Say when a head of the chain was last read, which was no older then than what scans believe."""
    return cursors.last_read_at()


_BEAT = """
    WITH now AS MATERIALIZED (
        SELECT coalesce(%(at)s, clock_timestamp()) AS at
    ), known AS MATERIALIZED (
        SELECT h.at AS at,
               h.at < now.at - make_interval(secs => %(after)s) OR EXISTS (
                   SELECT FROM marketplace_incident i WHERE i.part = h.part AND i.ended_at IS NULL) AS missed
        FROM marketplace_heartbeat h, now WHERE h.part = %(part)s
    ), written AS (
        INSERT INTO marketplace_heartbeat AS h (part, at)
        SELECT %(part)s, now.at FROM now LEFT JOIN known ON true
        WHERE known.at IS NULL OR (NOT known.missed AND known.at < now.at - interval '1 second')
        ON CONFLICT (part) DO UPDATE SET at = greatest(h.at, EXCLUDED.at)
    )
    SELECT coalesce((SELECT missed FROM known), false)
"""
_SILENT = """
    SELECT h.part, h.at FROM marketplace_heartbeat h
    WHERE h.at < clock_timestamp() - make_interval(secs => %s) AND NOT EXISTS (
        SELECT FROM marketplace_incident i
        WHERE i.part = h.part AND i.started_at >= h.at AND i.ended_at IS NOT NULL)
    ORDER BY h.at
"""
