"""What silence does in each state of a case, in plain words, before it happens."""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from disputes import clocks, decisions, lifecycle
from disputes.lifecycle import Action
from disputes.models import Deposit, Dispute, Party, Ruling
from marketplace.models import Job


class Deadline(NamedTuple):
    at: datetime
    action: str
    effect: str
    awaiting: str | None


def deadline_of(dispute: Dispute, job: Job, *, standing: Ruling | None = None) -> Deadline | None:
    """Say when the case moves by itself and what that does; None once it is closed."""
    if dispute.deadline_at is None:
        return None
    action = lifecycle.next_action(dispute)
    words = _words(dispute, job, action, standing)
    return Deadline(dispute.deadline_at, action, words, _awaited(dispute, action))


def _awaited(dispute: Dispute, action: Action) -> str | None:
    """Say whose turn it is: the moderator's, unless one side is asked something; nobody's alone while both are."""
    asked = [side for side in Party.values if clocks.question_by(dispute, side)]
    if asked:
        return asked[0] if len(asked) == 1 else None
    if action == Action.GO_UNANSWERED:
        return dispute.respondent_role
    return lifecycle.AWAITING.get(dispute.state)


def _words(dispute: Dispute, job: Job, action: Action, standing: Ruling | None) -> str:
    respondent = dispute.respondent_role
    match action:
        case Action.GO_UNANSWERED:
            return (
                f"If the {respondent} has not answered by then, the case goes to a moderator as it stands, and the"
                f" {respondent}'s silence counts as having asked for everything."
            )
        case Action.CLOSE_EVIDENCE:
            return "Evidence closes and the case goes to a moderator."
        case Action.RULE_BY_DEFAULT:
            return (
                f"{_before_default(dispute)} the default ruling is made: {_default(dispute, job)}. It can be appealed."
            )
        case Action.FINALISE if standing is not None:
            return f"The ruling is carried out: {_ruled(dispute, job, standing)}."
        case Action.APPEAL_LAPSES if standing is not None:
            return (
                "If no senior moderator has decided the appeal by then, the ruling is carried out as it stands: "
                f"{_ruled(dispute, job, standing)}."
            )
    if standing is not None:
        return f"The case ends for good with the ruling that stands: {_ruled(dispute, job, standing)}."
    return (
        "A moderator rules before then; if none has, the case ends for good by the default ruling: "
        f"{_default(dispute, job)}."
    )


def _before_default(dispute: Dispute) -> str:
    if dispute.clock_stopped_at:
        return (
            "The time for a ruling stands still while a question is open; this is its end at the latest. If no"
            " moderator has ruled by then,"
        )
    if lifecycle.awaits_approval(dispute):
        return "A ruling waits for a second moderator. If none has approved one by then,"
    return "If no moderator has ruled by then,"


def _default(dispute: Dispute, job: Job) -> str:
    assert dispute.deadline_at is not None  # noqa: S101 (asked above)
    return decisions.in_words(dispute, job, decisions.by_default(dispute, job, at=dispute.deadline_at).decision)


def _ruled(dispute: Dispute, job: Job, standing: Ruling) -> str:
    """Say what a ruling does that time alone carries out: an appeal that nobody decided costs nothing."""
    return decisions.in_words(dispute, job, replace(decisions.of_ruling(standing), appeal_deposit=Deposit.BACK))
