"""
The life of a case: the one function that obeys its table (table.py), writes its time line and locks its row.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from accounts import audit, clock
from accounts.errors import DomainError, NotFound
from accounts.models import Agent, User
from disputes import clocks, standstills
from disputes.models import Dispute, DisputeTransition
from disputes.table import AWAITING, RULES, TIME, Action, Rule, Who, role_named

__all__ = ["AWAITING", "Action", "Who", "role_named"]

S = Dispute.State


class TransitionNotAllowed(DomainError):
    """The table has no such step from here, for this party, at this moment."""

    code = "transition_not_allowed"
    title = "The case does not allow this now"


# --- asking the table -----------------------------------------------------------------------------------------------
def advance(
    dispute: Dispute,
    action: Action,
    *,
    by: Who,
    at: datetime,
    user: User | None = None,
    note: str = "",
    why: str = "",
    **changes: Any,
) -> Dispute:
    """
    Take one step of a case that is locked: check the table, start the clock of the new state, write the time line.

    `changes` are further columns that this step sets; `user` is the member of staff, whose step is audited with the
    reason they gave (`why`); `note` is shown to the parties.

    :raises TransitionNotAllowed: if no row of the table allows it
    """
    rule = rule_for(dispute, action, by, at)
    origin = dispute.state
    for name, value in changes.items():
        setattr(dispute, name, value)
    dispute.due_attempts, dispute.due_retry_at = 0, None  # whatever stumbled before, this step was taken
    if rule.to is not None:
        clocks.enter(dispute, rule.to, at)
    dispute.revision += 1
    dispute.save(update_fields=[*_MOVED, *changes])
    write(dispute, action, by=by, at=at, origin=origin, user=user, note=note)
    if user is not None:
        audit.record(
            f"dispute.{action}",
            user=user,
            subject=f"dispute:{dispute.pk}",
            before={"state": origin, "revision": dispute.revision - 1},
            after={"state": dispute.state, "revision": dispute.revision},
            reason=why or note,
            at=at,
        )
    return dispute


def rule_for(dispute: Dispute, action: Action, by: Who, at: datetime) -> Rule:
    """
    Find the row that allows the action.

    :raises TransitionNotAllowed: with the state and what this party may do instead
    """
    why = f"Nobody can {_words(action)} in a case that is {_words(dispute.state)}."
    for rule in RULES:
        if rule.action != action or dispute.state not in rule.origin:
            continue
        if by not in rule.by:
            why = f"The {by} cannot {_words(action)} in a case that is {_words(dispute.state)}."
            continue
        why = next((said for condition in rule.when if (said := condition(dispute, by, at))), "")
        if not why:
            return rule
        break
    raise TransitionNotAllowed(
        why, state=dispute.state, available_actions=[str(allowed) for allowed in available(dispute, by, at)]
    )


def available(dispute: Dispute, by: Who, at: datetime) -> list[Action]:
    """List what one may do now, in the order of the table."""
    found = [
        rule.action
        for rule in RULES
        if dispute.state in rule.origin
        and by in rule.by
        and not any(condition(dispute, by, at) for condition in rule.when)
    ]
    return list(dict.fromkeys(found))


def due_action(dispute: Dispute, at: datetime) -> Action:
    """Name what the clock of a case does when it runs out, or what comes due before it does."""
    if at >= dispute.hard_stop_at:
        return Action.HARD_STOP
    if dispute.deadline_at is not None and at < dispute.deadline_at:
        return reminder(dispute)
    return TIME[dispute.state]


def reminder(dispute: Dispute) -> Action:
    """Name what comes due in the middle of a state."""
    if dispute.state == S.AWAITING_APPROVAL:
        return Action.ASK_SENIOR
    return Action.QUESTION_LAPSES if dispute.clock_stopped_at else Action.ESCALATE


def next_action(dispute: Dispute) -> Action:
    """Name what silence will do."""
    return due_action(dispute, dispute.deadline_at or dispute.hard_stop_at)


def awaits_ruling(dispute: Dispute) -> bool:
    return dispute.state == S.UNDER_REVIEW


def awaits_approval(dispute: Dispute) -> bool:
    return dispute.state == S.AWAITING_APPROVAL


def is_appealed(dispute: Dispute) -> bool:
    return dispute.state == S.APPEALED


def write(
    dispute: Dispute,
    action: Action,
    *,
    by: Who,
    at: datetime,
    origin: str = "",
    user: User | None = None,
    note: str = "",
) -> None:
    """Put a step on the time line."""
    DisputeTransition.objects.bulk_create([
        DisputeTransition(
            dispute=dispute, revision=dispute.revision, action=action, by=role_named(dispute, by), user=user,
            from_state=origin, to_state=dispute.state, note=note, occurred_at=at,
        )
    ])  # fmt: skip


# --- rows and parties -----------------------------------------------------------------------------------------------
def lock(dispute_id: UUID, *, skip_locked: bool = False) -> Dispute:
    """
    Lock a case, and both agents' rows are read with it; and since when clocks stand still (`stands_since`), None while
    they run: nothing fires then. A case that an outage has not moved yet is moved first.

    :raises NotFound: if there is none (or, with `skip_locked`, if somebody else holds it)
    """
    dispute = _locked(skip_locked=skip_locked, pk=dispute_id)
    if dispute is None:
        raise NotFound("There is no such case.")
    return dispute


def lock_live_of(job_id: UUID) -> Dispute | None:
    """Lock the live case of a job, if there is one."""
    return _locked(job_id=job_id, state__in=Dispute.LIVE)


def _locked(*, skip_locked: bool = False, **which: Any) -> Dispute | None:
    rows = Dispute.objects.select_for_update(no_key=True, of=("self",), skip_locked=skip_locked)
    found = rows.select_related("client", "seller").annotate(**standstills.clocks()).filter(**which).first()
    if found is None or not found.is_behind or found.closed_at is not None:
        return found
    standstills.catch_up(found.pk, known=found.standstill)
    return _locked(**which)


def moment(at: datetime | None) -> datetime:
    """Read the database's clock (after the lock was got), unless a moment is given."""
    return at or clock.now()


def who_of(agent: Agent, dispute: Dispute) -> Who:
    """
    Say which side the agent is.

    :raises NotFound: for a stranger, who cannot tell a foreign case from none
    """
    if agent.id not in (dispute.client_id, dispute.seller_id):
        raise NotFound("There is no such case.")
    return Who.OPENER if agent.id == dispute.opener_id else Who.RESPONDENT


def party_of(agent: Agent, dispute: Dispute) -> str:
    """
    Say which role the agent has in the job.

    :raises NotFound: for a stranger
    """
    return role_named(dispute, who_of(agent, dispute))


_MOVED = ["state", "revision", *clocks.COLUMNS]


def _words(name: str) -> str:
    return str(name).replace("_", " ")
