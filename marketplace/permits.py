"""Whether both parties may take a step of a job: the limits that every row of the table asks which says so."""

from functools import partial
from uuid import UUID

from django.db import connection

from accounts import limits
from accounts.limits import InUse
from accounts.models import Agent


def require(client: Agent, seller: Agent, *, price_units: int, seller_counts: bool, job_id: UUID | None = None) -> None:
    """
    Let both take part in a job of this price. It counts as open for its client, and once it is agreed for its seller.

    `job_id` is the job itself, which is locked; a new one has none yet.

    :raises limits.AgentNotActive, limits.LimitExceeded: if one of them may not
    """
    for party in (client, seller):
        limits.require(party, value_units=price_units)
    counted = [client, seller] if seller_counts else [client]
    limits.require_room(counted, value_units=price_units, besides=partial(in_use, besides=job_id))


def in_use(agent_id: UUID, *, besides: UUID | None = None) -> InUse:
    """Add up open jobs and their value: a client's from `negotiating`, a seller's from `agreed`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(price_units), 0)::bigint FROM marketplace_job WHERE closed_at IS NULL"
            " AND (client_id = %s OR (seller_id = %s AND state <> 'negotiating')) AND id IS DISTINCT FROM %s",
            [agent_id, agent_id, besides],
        )
        return InUse(*cursor.fetchone())
