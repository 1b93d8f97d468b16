"""What an agent's quarrels say about it; part of its public record."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import connection

NAMES = ("disputes", "disputes_opened", "disputes_lost", "disputes_settled", "disputes_withdrawn")


def of_agent(agent_id: UUID) -> dict[str, Any]:
    """Count an agent's cases (see `of_many`)."""
    return of_many([agent_id])[agent_id]


def of_many(agent_ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """
    Count each agent's cases on either side, in one statement however many agents: all of them, those it opened, those
    it lost (by a ruling of a person), those that were settled, and those that were withdrawn.
    """
    asked = list(dict.fromkeys(agent_ids))
    with connection.cursor() as cursor:
        cursor.execute(_OF_MANY, [asked])
        return {agent_id: dict(zip(NAMES, counts, strict=True)) for agent_id, *counts in cursor.fetchall()}


# Each side by its own index: one condition with an OR would read them all.
_OF_MANY = """
    SELECT asked.id, count(theirs.state), count(*) FILTER (WHERE theirs.opened), count(*) FILTER (WHERE theirs.lost),
           count(*) FILTER (WHERE theirs.state = 'settled'), count(*) FILTER (WHERE theirs.state = 'withdrawn')
    FROM unnest(%s::uuid[]) AS asked (id)
    LEFT JOIN LATERAL (
        SELECT state, opened_by = 'client' AS opened, lost_by = 'client' AS lost
        FROM disputes_dispute WHERE client_id = asked.id
        UNION ALL
        SELECT state, opened_by = 'seller', lost_by = 'seller'
        FROM disputes_dispute WHERE seller_id = asked.id
    ) AS theirs ON true
    GROUP BY asked.id
"""
