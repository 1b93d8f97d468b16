"""
Alerts: what operators have to look at, since when, and until when.

Raising one again only says that it goes on. Telling people is the work of `alert_messages`, later and outside of
everybody's transaction.
"""

import logging
from collections.abc import Iterable
from datetime import datetime

from django.db import connection, transaction
from django.db.models import QuerySet

from accounts import clock, ids
from accounts.models import Alert

log = logging.getLogger(__name__)


@transaction.atomic
def sound(kind: str, subject: str = "", *, detail: str = "", at: datetime | None = None) -> bool:
    """
    Say that something is wrong; True if it was not known.

    `kind` is a stable word (`relayer_gas_low`), `subject` what it is about (an address, an id), `detail` a sentence for
    people. One row stays open for a kind and subject however often it is said.
    """
    at = at or clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_alert (id, kind, subject, detail, since, seen_at, attempts, next_attempt_at)
            VALUES (%s, %s, %s, %s, %s, %s, 0, %s)
            ON CONFLICT (kind, subject) WHERE cleared_at IS NULL
            DO UPDATE SET seen_at = EXCLUDED.seen_at, detail = EXCLUDED.detail
            RETURNING xmax = 0
            """,
            [ids.uuid7(), kind, subject[:120], detail[:1000], at, at, at],
        )
        [(is_new,)] = cursor.fetchall()
    if is_new:
        log.error("alert kind=%s subject=%s: %s", kind, subject, detail)
    return is_new


@transaction.atomic
def clear(kind: str, subject: str = "", *, at: datetime | None = None) -> bool:
    """Say that it is over; False if nothing was wrong."""
    return bool(_end(Alert.objects.filter(kind=kind, subject=subject), at))


@transaction.atomic
def clear_others(kind: str, *, still: Iterable[str], at: datetime | None = None) -> int:
    """End the alerts of a kind whose subject is not among those that still have it; answers how many."""
    return _end(Alert.objects.filter(kind=kind).exclude(subject__in=list(still)), at)


def is_sounding(kind: str, subject: str | None = None) -> bool:
    """Tell whether such an alert is open; without a subject, whether any of the kind is."""
    found = Alert.objects.filter(kind=kind, cleared_at=None)
    return (found if subject is None else found.filter(subject=subject)).exists()


def _end(alerts: QuerySet[Alert], at: datetime | None) -> int:
    at = at or clock.now()
    ended = list(alerts.filter(cleared_at=None).values_list("pk", "kind", "subject"))
    count = Alert.objects.filter(pk__in=[pk for pk, _, _ in ended], cleared_at=None).update(
        cleared_at=at, next_attempt_at=at, attempts=0
    )
    for _, kind, subject in ended:
        log.warning("alert_over kind=%s subject=%s", kind, subject)
    return count
