"""Whether a person has a stake in any clock that runs: whoever lets them stand still must have none."""

from django.db.models import Q

from accounts import interests
from accounts.models import Agent, User
from marketplace.models import Job


def require_none(user: User) -> None:
    """
    Refuse a person who owns an agent with an open job or case, or traded with one.

    Asked the other way round: of all agents only theirs can be meant, and those these ever had a job with.

    :raises interests.ConflictOfInterest: with the reason
    """
    mine = set(Agent.objects.filter(owner=user).values_list("pk", flat=True))
    if not mine:
        return
    known = mine | set(Job.objects.filter(client__in=mine).values_list("seller", flat=True))
    known |= set(Job.objects.filter(seller__in=mine).values_list("client", flat=True))
    running = Job.objects.filter(deadline_at__isnull=False)
    concerned = set(running.filter(Q(client__in=known)).values_list("client", flat=True))
    concerned |= set(running.filter(Q(seller__in=known)).values_list("seller", flat=True))
    interests.require_none(user, Agent.objects.filter(pk__in=concerned).order_by("pk"))
