"""
The second person's word: on a ruling that needs one, and on what a senior proposes to put in its place on appeal.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.errors import Invalid, NotAllowed
from accounts.models import User
from disputes import arbitration, assignment, candidates, cases, execution, lifecycle, rulings
from disputes.lifecycle import Action, Who
from disputes.models import Appeal, Dispute, Ruling, RulingApproval

REASON_CHARS = (20, 2_000)


@transaction.atomic
def approve(
    dispute_id: UUID, *, approver: User, revision: int, reason: str = "", at: datetime | None = None
) -> Dispute:
    """
    Agree to what a colleague proposes: the case is ruled and can be appealed, or, on appeal, final.

    `revision` is that of the case the approver read.

    :raises lifecycle.TransitionNotAllowed: unless a ruling is proposed
    :raises arbitration.CaseChanged: if the case moved on since
    :raises NotAllowed: without the permission, and to the author
    :raises conflicts.ConflictOfInterest: if the approver has a stake in it
    """
    dispute, ruling, who, at = _open(dispute_id, Action.APPROVE, approver, revision, at)
    _require_length(reason, least=0)
    _say(ruling, approver, RulingApproval.Decision.APPROVED, reason, at)
    if ruling.on_appeal:
        return execution.carry_out(
            dispute,
            ruling,
            Action.APPROVE,
            at=at,
            by=who,
            user=approver,
            why=reason,
            outcome=Appeal.Outcome.REPLACED,
            decided_by=ruling.author,
        )
    lifecycle.advance(dispute, Action.APPROVE, by=who, at=at, user=approver, why=reason)
    rulings.put_in_force(dispute, ruling)
    arbitration.announce(dispute, ruling, at)
    return dispute


@transaction.atomic
def send_back(dispute_id: UUID, *, approver: User, revision: int, reason: str, at: datetime | None = None) -> Dispute:
    """
    Give a proposed ruling back to its author, who decides again; the time for the ruling does not begin anew.

    `reason` has 20 to 2,000 characters and is for colleagues.

    :raises: as `approve`; :raises Invalid: without a reason
    """
    dispute, ruling, who, at = _open(dispute_id, Action.RETURN, approver, revision, at)
    _require_length(reason, least=REASON_CHARS[0])
    _say(ruling, approver, RulingApproval.Decision.RETURNED, reason, at)
    lifecycle.advance(dispute, Action.RETURN, by=who, at=at, user=approver, why=reason)
    rulings.put_back(ruling)
    cases.show_clock(dispute, standing=rulings.standing(dispute))
    return dispute


@transaction.atomic
def ask_senior(dispute_id: UUID, *, at: datetime | None = None) -> Dispute:
    """
    Ask a senior for the second word because half of the time for it is over: whoever has fewest open cases.

    Where no senior is fit nobody is asked; any colleague may still give the word.

    :raises lifecycle.TransitionNotAllowed: unless a ruling waits for approval and that moment has come
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.ASK_SENIOR, Who.SYSTEM, at)
    ruling = rulings.proposed(dispute)
    asked = [ruling.author_id if ruling else None, dispute.approver_id]
    senior = candidates.next_for(
        dispute,
        permissions=[candidates.APPROVES, candidates.HEARS_APPEALS],
        without=[person for person in asked if person],
    )
    return lifecycle.advance(
        dispute,
        Action.ASK_SENIOR,
        by=Who.SYSTEM,
        at=at,
        approver=senior or dispute.approver,
        senior_asked_at=at,
        remind_at=None,
    )


def _open(
    dispute_id: UUID, action: Action, approver: User, revision: int, at: datetime | None
) -> tuple[Dispute, Ruling, Who, datetime]:
    """Lock a case whose proposed ruling a colleague is about to judge."""
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    on_appeal = lifecycle.is_appealed(dispute)
    who = Who.SENIOR if on_appeal else Who.MODERATOR
    lifecycle.rule_for(dispute, action, who, at)
    arbitration.require_revision(dispute, revision)
    assignment.require_fit(approver, dispute, senior=on_appeal, second=True)
    ruling = rulings.proposed(dispute)
    assert ruling is not None  # noqa: S101 (the table asks for one)
    if ruling.author_id == approver.pk:
        raise NotAllowed("Nobody approves their own ruling.")
    return dispute, ruling, who, at


def _say(ruling: Ruling, approver: User, decision: str, reason: str, at: datetime) -> None:
    RulingApproval.objects.create(ruling=ruling, by=approver, decision=decision, reason=reason, decided_at=at)


def _require_length(reason: str, *, least: int) -> None:
    most = REASON_CHARS[1]
    if not least <= len(reason.strip()) <= len(reason) <= most:
        raise Invalid.at("/reason", "length", f"Say why, in {least} to {most:,} characters.")
