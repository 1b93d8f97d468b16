"""Telling agents that an incident began: each one with a clock that runs, once an incident, in batches."""

from uuid import UUID

from django.db import connection, transaction

from accounts import clock
from accounts.events import log
from marketplace.models import Incident


def tell(limit: int = 500) -> int:
    """
    Tell agents of an incident that not all of them know of, in one transaction; answer how many were told.

    One that is over meanwhile is told of to the end. Killed in the middle, the next call goes on behind the last.
    """
    with transaction.atomic():
        untold = Incident.objects.select_for_update(no_key=True, skip_locked=True).filter(told_at=None)
        incident = untold.order_by("started_at", "pk").first()
        if incident is None:
            return 0
        at = clock.now()
        recipients = _following(incident.told_up_to, limit)
        if recipients:
            log.record("incident.started", to=recipients, data=_data(incident), at=at)
            incident.told_up_to = recipients[-1]
        if len(recipients) < limit:
            incident.told_at = at
        incident.save(update_fields=["told_up_to", "told_at"])
        return len(recipients)


def _following(told_up_to: UUID | None, limit: int) -> list[UUID]:
    """List the next agents, by id, that have an open deadline."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLLOWING, {"after": told_up_to or UUID(int=0), "limit": limit})
        return [row[0] for row in cursor.fetchall()]


def _data(incident: Incident) -> dict[str, object]:
    return {
        "incident_id": str(incident.pk),
        "part": incident.part or None,
        "reason": incident.reason,
        "started_at": incident.started_at.isoformat().replace("+00:00", "Z"),
    }


_FOLLOWING = """
    SELECT client_id AS agent FROM marketplace_job WHERE deadline_at IS NOT NULL AND client_id > %(after)s
    UNION
    SELECT seller_id FROM marketplace_job WHERE deadline_at IS NOT NULL AND seller_id > %(after)s
    ORDER BY agent LIMIT %(limit)s
"""
