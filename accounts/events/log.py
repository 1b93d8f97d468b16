"""
What agents are told: one row for each recipient, in the transaction of the change.

Polling, the stream and webhooks are three views of these rows.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from accounts.events import doorbell, types


class News(NamedTuple):
    """What some agents are told. Data that names a `job_id` is numbered within the job."""

    to: Iterable[UUID]
    data: dict[str, Any]


def record(kind: str, *, to: Iterable[UUID], data: dict[str, Any], at: datetime) -> None:
    """
    Tell each recipient, in one statement, that something happened (types: api.md); queue it for webhooks, and ring.

    Data that names a `job_id` gets a `sequence`: 1, 2, 3 … for this recipient and job, so that a consumer sees gaps.
    """
    record_all(kind, [News(to, data)], at=at)


def record_all(kind: str, news: Sequence[News], *, at: datetime) -> None:
    """Tell several things of one kind at once, of which no two tell one agent of one job."""
    if kind not in types.ALL:
        raise ValueError(f"{kind} is no type of event")
    told = [
        (recipient, json.dumps(data), f"job:{data['job_id']}" if "job_id" in data else None)
        for to, data in news
        for recipient in set(to)
    ]
    if not told:
        return
    told.sort(key=lambda one: (one[0], one[2] or ""))  # counters are locked in one order
    recipients, documents, subjects = (list(column) for column in zip(*told, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(
            _RECORD, {"type": kind, "at": at, "recipients": recipients, "data": documents, "subjects": subjects}
        )
    doorbell.ring(recipients)


# A test goes to the endpoint that asked for it alone, whatever its filter.
_RECORD = """
    WITH told AS (
        SELECT recipient, data, subject
        FROM unnest(%(recipients)s::uuid[], %(data)s::text[]::jsonb[], %(subjects)s::text[])
             AS told (recipient, data, subject)
    ), counted AS (
        INSERT INTO accounts_eventcounter (recipient_id, subject, last)
        SELECT recipient, subject, 1 FROM told WHERE subject IS NOT NULL ORDER BY recipient, subject
        ON CONFLICT (recipient_id, subject) DO UPDATE SET last = accounts_eventcounter.last + 1
        RETURNING recipient_id, subject, last
    ), event AS (
        INSERT INTO accounts_event (recipient_id, type, data, occurred_at)
        SELECT told.recipient, %(type)s,
               CASE WHEN counted.last IS NULL THEN told.data
                    ELSE told.data || jsonb_build_object('sequence', counted.last) END,
               %(at)s
        FROM told LEFT JOIN counted ON counted.recipient_id = told.recipient AND counted.subject = told.subject
        RETURNING id, epoch, recipient_id, recorded_at, data
    )
    INSERT INTO accounts_webhookdelivery (endpoint_id, event_id, event_epoch, event_recorded_at, type)
    SELECT endpoint.id, event.id, event.epoch, event.recorded_at, %(type)s
    FROM event
    JOIN accounts_webhookendpoint endpoint ON endpoint.agent_id = event.recipient_id AND endpoint.state = 'enabled'
    WHERE CASE WHEN %(type)s = 'webhook.test' THEN endpoint.id = (event.data ->> 'endpoint_id')::uuid
               ELSE endpoint.event_types = '{}' OR %(type)s = ANY(endpoint.event_types) END
"""
