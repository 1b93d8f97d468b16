"""What an agent has done, and what it has open; parts of its public record and of its limits."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.edge.fields import units_to_text
from marketplace import permits

# How quickly a client reviews is judged by its latest jobs: the cost of a profile does not grow with a long life.
REVIEWED_JOBS = 200


def of_agent(agent_id: UUID) -> dict[str, Any]:
    """Say what an agent's jobs say about it (see `of_many`)."""
    return of_many([agent_id])[agent_id]


def of_many(agent_ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """
    Say of each agent what its jobs say about it, in one statement however many agents.

    `completed`: jobs of either side that were paid in full. `silent_approvals`: deliveries to it as a client that its
    silence approved. `median_review_seconds`: how long it took as a client to approve, to ask for a revision or to
    dispute, in its latest jobs; None where it never did.
    """
    asked = list(dict.fromkeys(agent_ids))
    with connection.cursor() as cursor:
        cursor.execute(_OF_MANY, [REVIEWED_JOBS, asked])
        return {
            agent_id: {
                "completed": completed,
                "silent_approvals": silent,
                "median_review_seconds": None if median is None else round(median),
            }
            for agent_id, completed, silent, median in cursor.fetchall()
        }


# The answer to a delivery is the next step on the job's time line, if it is one that only a client takes.
_OF_MANY = """
    SELECT asked.id,
           (SELECT count(*) FROM marketplace_job WHERE client_id = asked.id AND state = 'completed')
           + (SELECT count(*) FROM marketplace_job WHERE seller_id = asked.id AND state = 'completed'),
           (SELECT count(*) FROM marketplace_job j JOIN marketplace_transition t ON t.job_id = j.id
            WHERE j.client_id = asked.id AND j.state = 'completed' AND t.action = 'auto_approve'),
           (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM answer.occurred_at - d.occurred_at))
            FROM (SELECT id FROM marketplace_job WHERE client_id = asked.id AND funded_at IS NOT NULL
                  ORDER BY id DESC LIMIT %s) AS latest
            JOIN marketplace_transition d ON d.job_id = latest.id AND d.action = 'deliver'
            CROSS JOIN LATERAL (SELECT action, occurred_at FROM marketplace_transition
                                WHERE job_id = d.job_id AND revision > d.revision ORDER BY revision LIMIT 1) AS answer
            WHERE answer.action IN ('approve', 'request_revision', 'dispute'))
    FROM unnest(%s::uuid[]) AS asked (id)
"""


def in_use(agent_id: UUID) -> dict[str, Any]:
    """Add up open jobs and their value: a client's from `negotiating`, a seller's from `agreed`."""
    jobs, units = permits.in_use(agent_id)
    return {"open_jobs": jobs, "open_value": units_to_text(units)}
