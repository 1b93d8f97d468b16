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


def record(kind: str, *, to: Iterable[UUID], data: dict[str, Any], at: datetime) -> None:
    """Tell each recipient, in one statement, that something happened (types: api.md)."""
    recipients = list(dict.fromkeys(to))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_event (recipient_id, type, data, occurred_at)"
            " SELECT recipient, %s, %s::jsonb, %s FROM unnest(%s::uuid[]) AS recipient",
            [kind, json.dumps(data), at, recipients],
        )
