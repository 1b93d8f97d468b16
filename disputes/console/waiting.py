"""What waits for one person: rulings of colleagues for a second word, and appeals that nobody hears yet."""

from datetime import datetime
from typing import Any

from django.db.models import BooleanField, Case, Exists, OuterRef, Q, QuerySet, Subquery, Value, When

from accounts import interests
from accounts.models import Agent
from disputes import conflicts
from disputes.console import queue
from disputes.lifecycle import Action
from disputes.models import Assignment, Dispute, DisputeTransition, Ruling

LOOKED_AT = 40  # cases, before those with a stake in them are left out


def approvals(user: Any, *, at: datetime, limit: int = 10) -> list[queue.Row]:
    """List the cases in which this person may give the second word: first those where it is asked of them."""
    if not user.has_perm("disputes.approve"):
        return []
    proposed = Ruling.objects.filter(dispute=OuterRef("pk"), standing=Ruling.Standing.PROPOSED)
    found = Dispute.objects.filter(_awaits_second_word(user), Exists(proposed.exclude(author=user)), closed_at=None)
    return _fit(found, user, at=at, limit=limit)


def appeals(user: Any, *, at: datetime, limit: int = 10) -> list[queue.Row]:
    """List the appeals that nobody hears and this person may."""
    if not user.has_perm("disputes.hear_appeals"):
        return []
    found = Dispute.objects.filter(state=Dispute.State.APPEALED, assigned_to=None, closed_at=None)
    return _fit(found, user, at=at, limit=limit)


def _awaits_second_word(user: Any) -> Q:
    """A ruling waits in a state of its own, what replaces one on appeal in the appeal; for that a senior is needed."""
    waits = Q(state=Dispute.State.AWAITING_APPROVAL)
    return waits | Q(state=Dispute.State.APPEALED) if user.has_perm("disputes.hear_appeals") else waits


def _fit(found: QuerySet[Dispute], user: Any, *, at: datetime, limit: int) -> list[queue.Row]:
    """Leave out what the verbs would refuse this person: a stake in a party, a part in the ruling that is appealed."""
    asked = Case(When(approver=user, then=Value(True)), default=Value(False), output_field=BooleanField())
    seen: list[Any] = list(
        queue.lit(found.exclude(_stepped_back(user)).exclude(_took_part(user)), at)
        .select_related("client", "seller", "assigned_to")
        .defer("statement_of_client", "statement_of_seller")
        .annotate(is_asked=asked)
        .order_by("-is_asked", "deadline_at", "pk")[:LOOKED_AT]
    )
    # One question about all of them: most people have a stake in none.
    if interests.found(user, _parties(seen)):
        seen = [dispute for dispute in seen if not conflicts.found(user, dispute)]
    return [queue.Row(dispute, dispute.light) for dispute in seen[:limit]]


def _stepped_back(user: Any) -> Q:
    return Q(Exists(Assignment.objects.filter(dispute=OuterRef("pk"), how=Assignment.How.RECUSED, by=user)))


def _took_part(user: Any) -> Q:
    """As `conflicts.acted` says it of one case: every act of staff before the appeal is a step of the case."""
    steps = DisputeTransition.objects.filter(dispute=OuterRef("dispute"), action=Action.APPEAL)
    earlier = DisputeTransition.objects.filter(
        dispute=OuterRef("pk"), user=user, revision__lt=Subquery(steps.values("revision")[:1])
    )
    return Q(Exists(earlier), state=Dispute.State.APPEALED)


def _parties(disputes: list[Dispute]) -> list[Agent]:
    return list({agent.pk: agent for dispute in disputes for agent in (dispute.client, dispute.seller)}.values())
