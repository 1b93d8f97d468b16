"""
Nobody judges their own case, nor the appeal against what they had a part in.

What a stake in an agent is, accounts/interests.py and its registry say.
"""

from uuid import UUID

from accounts import interests
from accounts.interests import ConflictOfInterest
from accounts.models import User
from disputes import lifecycle
from disputes.lifecycle import Action
from disputes.models import Assignment, Dispute, DisputeTransition, Question, Ruling, RulingApproval

__all__ = ["ConflictOfInterest", "acted", "found", "require_none"]


def require_none(user: User, dispute: Dispute) -> None:
    """
    Refuse a member of staff who has a stake in the case.

    :raises ConflictOfInterest: if they own one of the agents, an agent of theirs has traded with one of them, they
        stepped back from the case, or they took part in the ruling that is appealed
    """
    if reason := found(user, dispute):
        raise ConflictOfInterest(reason)


def found(user: User, dispute: Dispute) -> str | None:
    """Say which stake a member of staff has in the case, or None."""
    if reason := interests.found(user, [dispute.client, dispute.seller]):
        return reason
    if Assignment.objects.filter(dispute=dispute, how=Assignment.How.RECUSED, by=user).exists():
        return "You stepped back from this case."
    if lifecycle.is_appealed(dispute) and user.pk in acted(dispute):
        return "You took part in the ruling that is appealed."
    return None


def acted(dispute: Dispute) -> set[UUID]:
    """
    Name the members of staff who had a part in the ruling: its authors, those who approved or returned one, who asked
    the parties, who took the case or gave it on. Who acts on an appeal is not among them for that.
    """
    steps = DisputeTransition.objects.filter(dispute=dispute)
    appealed_in = steps.filter(action=Action.APPEAL).values_list("revision", flat=True).first()
    if appealed_in is not None:
        steps = steps.filter(revision__lt=appealed_in)
    by_steps = steps.exclude(user=None).order_by().values_list("user", flat=True)
    authors = Ruling.objects.filter(dispute=dispute, on_appeal=False).exclude(author=None)
    seconds = RulingApproval.objects.filter(ruling__dispute=dispute, ruling__on_appeal=False)
    askers = Question.objects.filter(dispute=dispute)
    return set(
        by_steps.union(
            authors.values_list("author", flat=True),
            seconds.values_list("by", flat=True),
            askers.values_list("asked_by", flat=True),
        )
    )
