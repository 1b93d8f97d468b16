"""
Who has a case: given by turn, taken, given on, stepped back from, escalated.

Each change of hands is a step of the case and an `Assignment`; parties learn of neither the person nor the reason.
"""

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.errors import DomainError, Invalid, NotAllowed, NotFound
from accounts.models import User
from disputes import candidates, clocks, conflicts, lifecycle
from disputes.candidates import APPROVES, HEARS_APPEALS, RULES
from disputes.lifecycle import Action, Who
from disputes.models import Assignment, Dispute
from disputes.table import RULES as TABLE

log = logging.getLogger(__name__)

How = Assignment.How
REASON_CHARS = (20, 500)


class AssignedToAnother(DomainError):
    status = 403
    code = "assigned_to_another"
    title = "The case is a colleague's"


class AssignedAlready(DomainError):
    code = "assigned_already"
    title = "They have the case already"


class NothingToTake(DomainError):
    code = "nothing_to_take"
    title = "No case waits for you"


# --- by the system --------------------------------------------------------------------------------------------------
def assign_due(limit: int = 200) -> int:
    """
    Give every case that waits for somebody to whoever is fit and has fewest open ones; answers how many were given.

    Each case is one transaction; safe to run twice at once. Cases for which nobody is fit go on waiting.
    """
    return sum(_assigned(dispute_id) for dispute_id in _waiting(limit))


@transaction.atomic
def assign(dispute_id: UUID, *, at: datetime | None = None) -> bool:
    """Give one case away if it waits for somebody and somebody is fit; one that is locked is left to who locked it."""
    try:
        dispute = lifecycle.lock(dispute_id, skip_locked=True)
    except NotFound:
        return False
    at = lifecycle.moment(at)
    if dispute.assigned_to_id or Action.ASSIGN not in lifecycle.available(dispute, Who.SYSTEM, at):
        return False
    person = _next_for(dispute)
    if person is None:
        return False
    how = How.APPEAL if lifecycle.is_appealed(dispute) else How.BY_TURN
    _give(dispute, person, Action.ASSIGN, by=Who.SYSTEM, how=how, at=at)
    return True


def release_unfit() -> int:
    """
    Give on the cases of those who cannot act any more: left, or without the permission; answers how many.

    Where nobody else is fit the case waits for somebody.
    """
    return sum(_released(dispute_id) for dispute_id in _held_by_unfit())


@transaction.atomic
def escalate(dispute_id: UUID, at: datetime | None = None) -> Dispute:
    """
    Give a case to a senior because half of the time for its ruling is over, unless a senior has it.

    Where no senior is fit it stays where it is; vacancies.py says so.

    :raises lifecycle.TransitionNotAllowed: unless it is under review and that moment has come
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    if lifecycle.reminder(dispute) != Action.ESCALATE:
        raise lifecycle.TransitionNotAllowed("A question is open: the time for the ruling stands still.")
    lifecycle.rule_for(dispute, Action.ESCALATE, Who.SYSTEM, at)
    holder = dispute.assigned_to
    senior = holder if holder and _is_fit_senior(holder, dispute) else _next_senior_for(dispute)
    if senior is None or senior == holder:
        lifecycle.advance(dispute, Action.ESCALATE, by=Who.SYSTEM, at=at, escalated_at=at)
    else:
        _give(dispute, senior, Action.ESCALATE, by=Who.SYSTEM, how=How.ESCALATED, at=at, escalated_at=at)
    clocks.set_review_clock(dispute)
    dispute.save(update_fields=["deadline_at", "remind_at"])
    return dispute


# --- by staff -------------------------------------------------------------------------------------------------------
@transaction.atomic
def take(dispute_id: UUID, *, moderator: User, at: datetime | None = None) -> Dispute:
    """
    Make a case one's own.

    :raises lifecycle.TransitionNotAllowed: unless it is under review or appealed
    :raises NotAllowed: without the permission to rule, or, once it is appealed, to hear appeals
    :raises AssignedToAnother: if a colleague has it; :raises AssignedAlready: if the moderator has
    :raises conflicts.ConflictOfInterest: if the moderator has a stake in it
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.TAKE, _staff_of(dispute), at)
    require_fit(moderator, dispute, senior=lifecycle.is_appealed(dispute))
    if dispute.assigned_to_id == moderator.pk:
        raise AssignedAlready("You have this case already.")
    return take_locked(dispute, moderator=moderator, at=at)


def take_locked(dispute: Dispute, *, moderator: User, at: datetime) -> Dispute:
    """Make a locked case that nobody has the moderator's, who is fit for it."""
    return _give(dispute, moderator, Action.TAKE, by=_staff_of(dispute), how=How.TAKEN, user=moderator, at=at)


@transaction.atomic
def take_next(*, moderator: User, at: datetime | None = None) -> Dispute:
    """
    Make that case one's own which nobody has and whose time is over first, of those one is fit for.

    :raises NotAllowed: without the permission to rule
    :raises NothingToTake: if there is none
    """
    if not candidates.may(moderator, RULES):
        raise NotAllowed("Only moderators rule.")
    hears_appeals = candidates.may(moderator, HEARS_APPEALS)
    waiting = Dispute.objects.filter(state__in=_states_of(Action.TAKE), assigned_to=None).order_by("deadline_at", "pk")
    for seen in waiting.select_related("client", "seller").iterator(chunk_size=50):
        if (lifecycle.is_appealed(seen) and not hears_appeals) or conflicts.found(moderator, seen):
            continue
        if taken := _taken_if_free(seen.pk, moderator, at):
            return taken
    raise NothingToTake


@transaction.atomic
def reassign(dispute_id: UUID, *, by: User, to: User, reason: str, at: datetime | None = None) -> Dispute:
    """
    Give a case to a colleague: its holder may, and whoever hears appeals. `reason` has 20 to 500 characters.

    :raises lifecycle.TransitionNotAllowed: unless it is under review or appealed
    :raises NotAllowed: for anybody else, or if the colleague has not the permission that it takes
    :raises conflicts.ConflictOfInterest: if either of them has a stake in the case
    :raises AssignedAlready: if the colleague has it; :raises Invalid: without a reason
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    hears_appeals = candidates.may(by, HEARS_APPEALS)
    who = Who.SENIOR if hears_appeals else Who.MODERATOR
    lifecycle.rule_for(dispute, Action.REASSIGN, who, at)
    if not hears_appeals and not (candidates.may(by, RULES) and dispute.assigned_to_id == by.pk):
        raise NotAllowed("Whoever has the case gives it on, or a senior moderator.")
    conflicts.require_none(by, dispute)
    _require_reason(reason)
    if dispute.assigned_to_id == to.pk:
        raise AssignedAlready(f"{to} has this case already.")
    if not candidates.may(to, *_permissions_for(dispute)):
        raise NotAllowed(f"{to} may not decide this case.")
    if conflicts.found(to, dispute):
        raise conflicts.ConflictOfInterest(f"{to} has a stake in this case.")
    return _give(dispute, to, Action.REASSIGN, by=who, how=How.REASSIGNED, user=by, reason=reason, at=at)


@transaction.atomic
def recuse(dispute_id: UUID, *, moderator: User, reason: str, at: datetime | None = None) -> Dispute:
    """
    Step back from a case: it goes to the next who is fit, and never comes back. `reason` has 20 to 500 characters.

    :raises lifecycle.TransitionNotAllowed: unless it is under review or appealed
    :raises AssignedToAnother: if the moderator has not got it; :raises Invalid: without a reason
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    who = _staff_of(dispute)
    lifecycle.rule_for(dispute, Action.RECUSE, who, at)
    if dispute.assigned_to_id != moderator.pk:
        raise AssignedToAnother("Only who has a case steps back from it.")
    _require_reason(reason)
    following = _next_for(dispute, without=[moderator.pk])
    return _give(dispute, following, Action.RECUSE, by=who, how=How.RECUSED, user=moderator, reason=reason, at=at)


def require_fit(user: User, dispute: Dispute, *, senior: bool = False, second: bool = False) -> None:
    """
    Let nobody decide a case who may not: with `senior`, who hears no appeals.

    With `second` it is about a second person's word: that takes the permission to approve, and the case is a
    colleague's. That nobody approves their own ruling is the caller's to see to.

    :raises NotAllowed: without the permission; :raises AssignedToAnother: if a colleague has the case
    :raises conflicts.ConflictOfInterest: if they have a stake in it
    """
    needed, refusal = _NEEDED[senior, second]
    if not candidates.may(user, *needed):
        raise NotAllowed(refusal)
    if not second and dispute.assigned_to_id not in (None, user.pk):
        raise AssignedToAnother("Ask for it to be given to you.")
    conflicts.require_none(user, dispute)


# (senior, second) → permissions, and what those without are told
_NEEDED = {
    (False, False): ([RULES], "Only moderators rule."),
    (True, False): ([HEARS_APPEALS], "Only senior moderators hear appeals."),
    (False, True): ([APPROVES], "Only moderators approve rulings."),
    (True, True): ([HEARS_APPEALS, APPROVES], "Only senior moderators approve what replaces a ruling."),
}


# --- hands ----------------------------------------------------------------------------------------------------------
def _give(
    dispute: Dispute,
    to: User | None,
    action: Action,
    *,
    by: Who,
    how: str,
    at: datetime,
    user: User | None = None,
    reason: str = "",
    **changes: Any,
) -> Dispute:
    if to is not None and dispute.first_assigned_at is None:
        changes["first_assigned_at"] = at
    lifecycle.advance(
        dispute, action, by=by, at=at, user=user, why=reason, assigned_to=to, assigned_at=to and at, **changes
    )
    Assignment.objects.create(dispute=dispute, to=to, by=user, how=how, reason=reason, at=at)
    return dispute


def _next_for(dispute: Dispute, *, without: list[UUID] | None = None) -> User | None:
    """Find who comes next; a case that was escalated goes to a senior while there is one."""
    first = dispute.escalated_at and not lifecycle.is_appealed(dispute) and _next_senior_for(dispute, without=without)
    return first or candidates.next_for(dispute, permissions=_permissions_for(dispute), without=without or [])


def _next_senior_for(dispute: Dispute, *, without: list[UUID] | None = None) -> User | None:
    return candidates.next_for(dispute, permissions=[RULES, HEARS_APPEALS], without=without or [])


def _is_fit_senior(holder: User, dispute: Dispute) -> bool:
    """A stake may have come about since the case was given."""
    return candidates.may(holder, RULES, HEARS_APPEALS) and conflicts.found(holder, dispute) is None


def _permissions_for(dispute: Dispute) -> list[str]:
    return [HEARS_APPEALS if lifecycle.is_appealed(dispute) else RULES]


def _staff_of(dispute: Dispute) -> Who:
    return Who.SENIOR if lifecycle.is_appealed(dispute) else Who.MODERATOR


def _states_of(action: Action) -> set[str]:
    return {state for rule in TABLE if rule.action == action for state in rule.origin}


def _require_reason(reason: str) -> None:
    least, most = REASON_CHARS
    if not least <= len(reason.strip()) <= len(reason) <= most:
        raise Invalid.at("/reason", "length", f"Say why, in {least} to {most} characters.")


# --- what the sweeps find -------------------------------------------------------------------------------------------
def _waiting(limit: int) -> list[UUID]:
    """List cases that nobody has, most urgent first; each state for itself: one without people holds up no other."""
    found = Dispute.objects.filter(assigned_to=None).order_by("deadline_at", "pk").values_list("pk", flat=True)
    return [pk for state in sorted(_states_of(Action.ASSIGN)) for pk in found.filter(state=state)[:limit]]


def _assigned(dispute_id: UUID) -> bool:
    try:
        return assign(dispute_id)
    except Exception:  # one case that raises must not stop the others
        log.exception("case %s could not be assigned", dispute_id)
        return False


def _held_by_unfit() -> list[UUID]:
    held = Dispute.objects.filter(state__in=_states_of(Action.ASSIGN), assigned_to__isnull=False)
    holders = {user.pk: user for user in User.objects.filter(pk__in=held.values("assigned_to"))}
    found: list[UUID] = []
    for state, holder in set(held.order_by().values_list("state", "assigned_to")):
        if not candidates.may(holders[holder], *_permissions_for(Dispute(state=state))):
            found += held.filter(state=state, assigned_to=holder).values_list("pk", flat=True)
    return found


def _released(dispute_id: UUID) -> bool:
    try:
        return _release(dispute_id)
    except Exception:  # as above
        log.exception("case %s could not be given on", dispute_id)
        return False


@transaction.atomic
def _release(dispute_id: UUID) -> bool:
    try:
        dispute = lifecycle.lock(dispute_id, skip_locked=True)
    except NotFound:
        return False
    at = lifecycle.moment(None)
    holder = dispute.assigned_to
    if holder is None or candidates.may(holder, *_permissions_for(dispute)):
        return False
    if Action.ASSIGN not in lifecycle.available(dispute, Who.SYSTEM, at):
        return False
    following = _next_for(dispute, without=[holder.pk])
    _give(dispute, following, Action.ASSIGN, by=Who.SYSTEM, how=How.RELEASED, at=at)
    return True


def _taken_if_free(dispute_id: UUID, moderator: User, at: datetime | None) -> Dispute | None:
    """Take a case unless a colleague was faster, or is about to."""
    try:
        dispute = lifecycle.lock(dispute_id, skip_locked=True)
    except NotFound:
        return None
    at = lifecycle.moment(at)
    if dispute.assigned_to_id or Action.TAKE not in lifecycle.available(dispute, _staff_of(dispute), at):
        return None
    return take_locked(dispute, moderator=moderator, at=at)
