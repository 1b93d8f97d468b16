"""What an agent's quarrels say about it; part of its public record."""

from typing import Any
from uuid import UUID

from django.db.models import Q

from disputes.models import Dispute, Party


def of_agent(agent_id: UUID) -> dict[str, Any]:
    """Count the cases that an agent lost, on either side."""
    lost = Q(lost_by=Party.CLIENT, client=agent_id) | Q(lost_by=Party.SELLER, seller=agent_id)
    return {"disputes_lost": Dispute.objects.filter(lost).count()}
