"""Alerts of the event log: it lags, or nobody makes its months."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection

from accounts import alerts, clock

LAG_SECONDS = 60
# Made two months ahead, so that one that is missing so shortly before it begins was missed many times.
AHEAD = timedelta(days=14)


class Oldest(NamedTuple):
    """The oldest transaction of the whole cluster that wrote something: the feed goes no further than to it."""

    seconds: float
    who: str


def look(*, at: datetime | None = None) -> None:
    """Sound what is wrong with the event log, and clear what is not."""
    at = at or clock.now()
    _lag(at)
    _months(at)


def oldest() -> Oldest | None:
    """
    Find the transaction that holds the feed, of any database of the cluster, a prepared one included.

    Times of others' sessions are shown to members of `pg_read_all_stats`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT greatest(extract(epoch FROM clock_timestamp() - began), 0)::float8, who FROM (
                SELECT xact_start AS began,
                    format('pid %s, database %s, %s', pid, datname, coalesce(nullif(application_name, ''), usename))
                FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
                UNION ALL
                SELECT prepared, format('prepared transaction %s, database %s', gid, database) FROM pg_prepared_xacts
            ) AS writing (began, who)
            WHERE began IS NOT NULL ORDER BY began LIMIT 1
            """
        )
        row = cursor.fetchone()
    return Oldest(*row) if row else None


def _lag(at: datetime) -> None:
    holding = oldest()
    if holding is not None and holding.seconds > LAG_SECONDS:
        detail = (
            f"A transaction has been open for {holding.seconds:.0f} s: {holding.who}. Agents are told nothing newer."
        )
        alerts.sound("events_lag", detail=detail, at=at)
    else:
        alerts.clear("events_lag", at=at)


def _months(at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM accounts_event_rest),"
            " to_regclass('accounts_event_' || to_char(%s AT TIME ZONE 'UTC', 'YYYY_MM')) IS NULL",
            [at + AHEAD],
        )
        unparted, missing = cursor.fetchone()
    if unparted or missing:
        said = "Events are in the rest partition" if unparted else "The month to come has no partition"
        alerts.sound("events_unparted", detail=f"{said}: accounts.tasks.keep_events makes the months.", at=at)
    else:
        alerts.clear("events_unparted", at=at)
