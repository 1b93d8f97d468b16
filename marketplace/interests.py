"""The stake that a person has in an agent through work: an agent of theirs has traded with it."""

from django.db.models import Q

from accounts.models import Agent, User
from marketplace.models import Job


def through_trade(user: User, agents: list[Agent]) -> str | None:
    """
    Say so if an agent of a person's ever had a job with one of the agents, on either side, however it ended.

    A proposal that the person's agent never answered is none: else a party could choose who does not judge it.
    """
    mine = Agent.objects.filter(owner=user).values("pk")
    theirs = [agent.pk for agent in agents]
    answered = Q(offers_count__gt=1) | Q(agreed_terms_hash__isnull=False)
    traded = Q(answered, client__in=theirs, seller__in=mine) | Q(seller__in=theirs, client__in=mine)
    if Job.objects.filter(traded).exists():
        return "An agent of yours has traded with one of the agents."
    return None
