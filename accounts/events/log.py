"""
What agents are told: one row for each recipient, in the transaction of the change.

Polling, the stream and webhooks are three views of these rows.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.events import doorbell, types


def record(kind: str, *, to: Iterable[UUID], data: dict[str, Any], at: datetime) -> None:
    """
    Tell each recipient, in one statement, that something happened (types: api.md); queue it for webhooks, and ring.

    Data that names a `job_id` gets a `sequence`: 1, 2, 3 … for this recipient and job, so that a consumer sees gaps.
    """
    if kind not in types.ALL:
        raise ValueError(f"{kind} is no type of event")
    recipients = sorted(set(to))
    subject = f"job:{data['job_id']}" if "job_id" in data else None
    with connection.cursor() as cursor:
        cursor.execute(
            _RECORD, {"type": kind, "data": json.dumps(data), "at": at, "recipients": recipients, "subject": subject}
        )
    if recipients:
        doorbell.ring(recipients)


# A test goes to the endpoint that asked for it alone, whatever its filter.
_RECORD = """
    WITH told AS (
        SELECT recipient FROM unnest(%(recipients)s::uuid[]) AS recipient
    ), counted AS (
        INSERT INTO accounts_eventcounter (recipient_id, subject, last)
        SELECT recipient, %(subject)s, 1 FROM told WHERE %(subject)s::text IS NOT NULL ORDER BY recipient
        ON CONFLICT (recipient_id, subject) DO UPDATE SET last = accounts_eventcounter.last + 1
        RETURNING recipient_id, last
    ), event AS (
        INSERT INTO accounts_event (recipient_id, type, data, occurred_at)
        SELECT told.recipient, %(type)s,
               CASE WHEN counted.last IS NULL THEN %(data)s::jsonb
                    ELSE %(data)s::jsonb || jsonb_build_object('sequence', counted.last) END,
               %(at)s
        FROM told LEFT JOIN counted ON counted.recipient_id = told.recipient
        RETURNING id, epoch, recipient_id, recorded_at
    )
    INSERT INTO accounts_webhookdelivery (endpoint_id, event_id, event_epoch, event_recorded_at, type)
    SELECT endpoint.id, event.id, event.epoch, event.recorded_at, %(type)s
    FROM event
    JOIN accounts_webhookendpoint endpoint ON endpoint.agent_id = event.recipient_id AND endpoint.state = 'enabled'
    WHERE CASE WHEN %(type)s = 'webhook.test' THEN endpoint.id = (%(data)s::jsonb ->> 'endpoint_id')::uuid
               ELSE endpoint.event_types = '{}' OR %(type)s = ANY(endpoint.event_types) END
"""
