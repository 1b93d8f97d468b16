"""What silence does in each state of a case, in plain words, before it happens."""

from datetime import datetime
from typing import NamedTuple

from disputes import clocks, decisions, lifecycle
from disputes.models import Dispute, Party, Ruling
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


def _awaited(dispute: Dispute, action: lifecycle.Action) -> str | None:
    """Say whose turn it is: the moderator's, unless one side is asked something; nobody's alone while both are."""
    asked = [side for side in Party.values if clocks.question_by(dispute, side)]
    if asked:
        return asked[0] if len(asked) == 1 else None
    if action == lifecycle.Action.GO_UNANSWERED:
        return dispute.respondent_role
    return lifecycle.AWAITING.get(dispute.state)


def _words(dispute: Dispute, job: Job, action: lifecycle.Action, standing: Ruling | None) -> str:
    respondent = dispute.respondent_role
    match action:
        case lifecycle.Action.GO_UNANSWERED:
            return (
                f"If the {respondent} has not answered by then, the case goes to a moderator as it stands, and the"
                f" {respondent}'s silence counts as having asked for everything."
            )
        case lifecycle.Action.CLOSE_EVIDENCE:
            return "Evidence closes and the case goes to a moderator."
        case lifecycle.Action.FINALISE if standing is not None:
            return f"The ruling is carried out: {decisions.in_words(dispute, job, decisions.of_ruling(standing))}."
    assert dispute.deadline_at is not None  # noqa: S101 (asked above)
    if standing is not None and standing.standing == Ruling.Standing.STANDING:
        ruled = decisions.in_words(dispute, job, decisions.of_ruling(standing))
        return f"The case ends for good with the ruling that stands: {ruled}."
    default = decisions.by_default(dispute, job, at=dispute.deadline_at)
    return (
        "A moderator rules before then; if none has, the case ends for good by the default ruling: "
        f"{decisions.in_words(dispute, job, default.decision)}."
    )
