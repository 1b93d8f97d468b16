"""The next step, in one sentence for whoever looks at the case."""

from datetime import datetime
from typing import Any

from disputes import lifecycle
from disputes.console.powers import Powers
from disputes.lifecycle import Action
from disputes.models import Dispute, Question, Ruling
from disputes.templatetags.console import distance, moment

S = Dispute.State


def of(
    user: Any,
    dispute: Dispute,
    powers: Powers,
    *,
    questions: list[Question],
    proposed: Ruling | None,
    at: datetime,
) -> str:
    """Say what this person does next, or that there is nothing to do and why."""
    match dispute.state:
        case S.AWAITING_ANSWER:
            return (
                f"Nothing to do yet: the {dispute.respondent_role} may answer until {_by(dispute.answer_by)}; then both"
                " sides bring evidence, and only then a moderator decides."
            )
        case S.EVIDENCE:
            return (
                f"Nothing to do yet: both sides bring evidence until {_by(dispute.evidence_by)}. You may read along;"
                " ruling begins after that."
            )
        case S.UNDER_REVIEW:
            return _under_review(user, dispute, powers, questions, at)
        case S.AWAITING_APPROVAL:
            return _approval(dispute, powers, dispute.approve_by)
        case S.RULED:
            return (
                f"Nothing to do: the ruling stands. It is carried out at {_by(dispute.appeal_by)}, unless a side"
                " appeals before then."
            )
        case S.APPEALED if proposed is not None:
            return _approval(dispute, powers, dispute.hear_appeal_by)
        case S.APPEALED:
            return _appealed(dispute, powers, mine=dispute.assigned_to_id == user.pk)
        case S.SETTLED:
            return "Nothing to do: the parties settled; the money went as they agreed."
        case S.WITHDRAWN:
            return "Nothing to do: the case was withdrawn and the job went on."
    return "Nothing to do: the case is final and the money has moved."


def _under_review(user: Any, dispute: Dispute, powers: Powers, questions: list[Question], at: datetime) -> str:
    mine = dispute.assigned_to_id == user.pk
    waiting = [one for one in questions if one.answered_at is None and at < one.answer_by]
    if mine and waiting:
        last = max(waiting, key=lambda one: one.answer_by)
        sides = " and the ".join(dict.fromkeys(str(one.to) for one in waiting))
        return (
            f"You have this case and wait for the {sides} to answer until {_by(last.answer_by)}; the clock of the"
            " ruling stands still meanwhile."
        )
    if mine and powers.may_rule:
        ask = ", ask if something is missing," if Action.ASK in powers.may else ""
        return f"You have this case: read it{ask} and rule by {_by(dispute.rule_by)}."
    if Action.TAKE in powers.may:
        return f"Nobody has this case: take it, read it, and rule by {_by(dispute.rule_by)}."
    return f"{powers.why_not} A ruling is due by {_by(dispute.rule_by)}."


def _approval(dispute: Dispute, powers: Powers, by: datetime | None) -> str:
    if Action.APPROVE in powers.may:
        return (
            "This ruling needs a second person, and that may be you: read the case, the ruling and what it posts, then"
            f" approve it or send it back, by {_by(by)}."
        )
    return f"{powers.why_not} A second person decides by {_by(by)}."


def _appealed(dispute: Dispute, powers: Powers, *, mine: bool) -> str:
    if mine and powers.may_rule:
        return (
            "You hear this appeal: read the grounds and the ruling, then uphold it or replace it, by"
            f" {_by(dispute.hear_appeal_by)}."
        )
    if Action.TAKE in powers.may:
        return (
            f"Nobody hears this appeal yet: take it, and uphold or replace the ruling by {_by(dispute.hear_appeal_by)}."
        )
    return f"{powers.why_not} The appeal is decided by {_by(dispute.hear_appeal_by)}."


def _by(at: datetime | None) -> str:
    return f"{moment(at)} ({distance(at)})"


def clock_of(dispute: Dispute) -> datetime | None:
    """Say when staff must have acted: what the light of the case goes by."""
    if lifecycle.awaits_ruling(dispute):
        return dispute.rule_by
    if lifecycle.awaits_approval(dispute):
        return dispute.approve_by
    return dispute.hear_appeal_by if lifecycle.is_appealed(dispute) else None
