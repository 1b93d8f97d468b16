"""Nobody judges their own case."""

from django.db.models import Q

from accounts.errors import DomainError
from accounts.models import Agent, User
from disputes.models import Dispute
from marketplace.models import Job


class ConflictOfInterest(DomainError):
    status = 403
    code = "conflict_of_interest"
    title = "You have a stake in this case"


def require_none(user: User, dispute: Dispute) -> None:
    """
    Refuse a member of staff who has a stake in the case.

    :raises ConflictOfInterest: if they own one of the agents, or an agent of theirs has traded with one of them
    """
    if reason := found(user, dispute):
        raise ConflictOfInterest(reason)


def found(user: User, dispute: Dispute) -> str | None:
    """Say which stake a member of staff has in the case, or None."""
    parties = [dispute.client_id, dispute.seller_id]
    if user.pk in (dispute.client.owner_id, dispute.seller.owner_id):
        return "You own one of the agents."
    mine = Agent.objects.filter(owner=user).values("pk")
    if Job.objects.filter(
        Q(client_id__in=parties, seller_id__in=mine) | Q(seller_id__in=parties, client_id__in=mine)
    ).exists():
        return "An agent of yours has traded with one of the parties."
    return None
