"""What an agent has done, and what it has open; parts of its public record and of its limits."""

from typing import Any
from uuid import UUID

from django.db import connection

from accounts.edge.fields import units_to_text


def of_agent(agent_id: UUID) -> dict[str, Any]:
    """Count the jobs that an agent completed, on either side."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM marketplace_job WHERE state = 'completed' AND (client_id = %s OR seller_id = %s)",
            [agent_id, agent_id],
        )
        return {"completed": cursor.fetchone()[0]}


def in_use(agent_id: UUID) -> dict[str, Any]:
    """Add up open jobs and their value: a client's from `negotiating`, a seller's from `agreed`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(price_units), 0)::bigint FROM marketplace_job WHERE closed_at IS NULL"
            " AND (client_id = %s OR (seller_id = %s AND state <> 'negotiating'))",
            [agent_id, agent_id],
        )
        jobs, units = cursor.fetchone()
    return {"open_jobs": jobs, "open_value": units_to_text(units)}
