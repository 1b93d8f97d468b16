"""What a member of staff may do with a case now, and if they may not decide it, why. The verbs say it again."""

from datetime import datetime
from typing import Any, NamedTuple

from accounts.errors import DomainError
from disputes import assignment, candidates, lifecycle
from disputes.lifecycle import Action, Who
from disputes.models import Dispute, Ruling

DECIDES: dict[str, tuple[Action, ...]] = {
    Dispute.State.UNDER_REVIEW: (Action.RULE, Action.PROPOSE_RULING),
    Dispute.State.AWAITING_APPROVAL: (Action.APPROVE, Action.RETURN),
    Dispute.State.APPEALED: (Action.UPHOLD, Action.REPLACE, Action.PROPOSE_REPLACEMENT),
}


class Powers(NamedTuple):
    """The verbs that are open to somebody, and why the case is not theirs to decide."""

    may: frozenset[str]
    why_not: str

    @property
    def may_rule(self) -> bool:
        """Whether the form of a ruling is theirs: a first one, or one that replaces another."""
        return bool(self.may & {Action.RULE, Action.REPLACE})


def of(user: Any, dispute: Dispute, at: datetime, *, proposed: Ruling | None = None) -> Powers:
    """
    List what somebody may do now: at most two statements for their stake in the case.

    `proposed` is the ruling that waits for a second person.
    """
    if dispute.state not in DECIDES:
        return Powers(frozenset(), "")
    second = proposed is not None
    wanted = (Action.APPROVE, Action.RETURN) if second else DECIDES[dispute.state]
    why_not = _why_unfit(user, dispute, second=second) or _why_own(user, proposed)
    fit = not why_not
    if fit:
        why_not = _why_not_now(dispute, wanted, at)
    may = set() if why_not else set(wanted)
    who = _staff_of(dispute)
    open_to_staff = set(lifecycle.available(dispute, who, at))
    if who != Who.SENIOR and candidates.may(user, candidates.HEARS_APPEALS):
        open_to_staff |= set(lifecycle.available(dispute, Who.SENIOR, at))
    if fit and not second:
        may |= {Action.ASK} & open_to_staff
        if dispute.assigned_to_id is None:
            may |= {Action.TAKE} & open_to_staff
    has_it = dispute.assigned_to_id == user.pk
    if has_it:
        may |= {Action.RECUSE} & open_to_staff
    if (has_it and candidates.may(user, candidates.RULES)) or candidates.may(user, candidates.HEARS_APPEALS):
        may |= {Action.REASSIGN} & open_to_staff
    return Powers(frozenset(may), why_not)


def _why_unfit(user: Any, dispute: Dispute, *, second: bool) -> str:
    try:
        assignment.require_fit(user, dispute, senior=lifecycle.is_appealed(dispute), second=second)
    except assignment.AssignedToAnother:
        return f"{dispute.assigned_to} has this case and decides it; you may read it."
    except DomainError as refusal:
        return f"You may read this case, not decide it. {refusal.detail}"
    return ""


def _why_own(user: Any, proposed: Ruling | None) -> str:
    if proposed is not None and proposed.author_id == user.pk:
        return "You wrote this ruling: the second word is a colleague's."
    return ""


def _why_not_now(dispute: Dispute, wanted: tuple[Action, ...], at: datetime) -> str:
    try:
        lifecycle.rule_for(dispute, wanted[0], _staff_of(dispute), at)
    except lifecycle.TransitionNotAllowed as refusal:
        return refusal.detail
    return ""


def _staff_of(dispute: Dispute) -> Who:
    return Who.SENIOR if lifecycle.is_appealed(dispute) else Who.MODERATOR
