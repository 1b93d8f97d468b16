"""
How long each state of a case lasts. Windows are in the row, copied from the settings when the case was opened.

`deadline_at` is when the state ends by itself, never beyond the hard stop; `remind_at` is when something comes due
before that; the sweep of deadlines goes by the earlier of the two (`due_at`, which the database reckons).
"""

from datetime import datetime, timedelta

from disputes.models import Dispute, Party

S = Dispute.State

# The clock that a state starts when it is entered: the column that tells it, the window it takes from the row, how
# many times it takes it.
CLOCKS: dict[str, tuple[str, str, int]] = {
    S.AWAITING_ANSWER: ("answer_by", "answer_seconds", 1),
    S.EVIDENCE: ("evidence_by", "evidence_seconds", 1),
    S.AWAITING_APPROVAL: ("approve_by", "approval_seconds", 2),
    S.RULED: ("appeal_by", "appeal_seconds", 1),
    S.APPEALED: ("hear_appeal_by", "appeal_hearing_seconds", 1),
}
COLUMNS = [
    "deadline_at", "deadline_from", "remind_at", "closed_at", "answer_by", "evidence_by", "rule_by", "approve_by",
    "appeal_by", "hear_appeal_by", "entered_review_at", "escalated_at", "senior_asked_at", "clock_stopped_at",
    "question_to_client_by", "question_to_seller_by", "due_attempts", "due_retry_at",
]  # fmt: skip


def enter(dispute: Dispute, state: str, at: datetime) -> None:
    """Enter a state and start its clock; whatever clocks the state before had are over."""
    dispute.state = state
    dispute.deadline_from, dispute.remind_at = at, None
    dispute.clock_stopped_at = dispute.question_to_client_by = dispute.question_to_seller_by = None
    if state in Dispute.CLOSED:
        dispute.deadline_at, dispute.deadline_from, dispute.closed_at = None, None, at
    elif state == S.UNDER_REVIEW:
        _enter_review(dispute, at)
    else:
        column, window, times = CLOCKS[state]
        span = timedelta(seconds=getattr(dispute, window))
        dispute.deadline_at = min(at + times * span, dispute.hard_stop_at)
        setattr(dispute, column, dispute.deadline_at)
        if state == S.AWAITING_APPROVAL:
            dispute.senior_asked_at = None
            _remind(dispute, at + span)


def stop_for_question(dispute: Dispute, side: str, *, at: datetime, answer_by: datetime) -> None:
    """Stop the clock of the ruling until a side has answered, or its time is over."""
    dispute.clock_stopped_at = dispute.clock_stopped_at or at
    column = f"question_to_{side}_by"
    setattr(dispute, column, max(filter(None, (getattr(dispute, column), answer_by))))
    dispute.deadline_from = at
    set_review_clock(dispute)


def end_question(dispute: Dispute, side: str, *, at: datetime, open_until: datetime | None = None) -> None:
    """
    Let the clock go on if this was the last open question; `open_until` is the end of another one to the same side.

    `at` is when the question ended: a sweep that comes late gives nobody more time.
    """
    setattr(dispute, f"question_to_{side}_by", open_until)
    if not _open_questions(dispute) and dispute.clock_stopped_at and dispute.rule_by:
        dispute.rule_by += _stood_for(dispute, at)
        dispute.clock_stopped_at, dispute.deadline_from = None, at
    set_review_clock(dispute)


def _stood_for(dispute: Dispute, until: datetime) -> timedelta:
    """Say how long a question stopped the clock; an outage that is not over counts once, by itself, when it is."""
    assert dispute.clock_stopped_at is not None  # noqa: S101 (it is stopped)
    stopped_at = dispute.clock_stopped_at
    if dispute.stands_since:
        stopped_at, until = min(stopped_at, dispute.stands_since), min(until, dispute.stands_since)
    return max(until - stopped_at, timedelta(0))


def question_by(dispute: Dispute, side: str) -> datetime | None:
    """Say until when a side may answer what it was asked; None if nothing is open."""
    return dispute.question_to_client_by if side == Party.CLIENT else dispute.question_to_seller_by


def set_review_clock(dispute: Dispute) -> None:
    """Reckon when the default ruling comes, and what comes due before."""
    assert dispute.rule_by is not None  # noqa: S101 (under review)
    if dispute.clock_stopped_at:
        ends = _open_questions(dispute)
        dispute.deadline_at = min(dispute.rule_by + (max(ends) - dispute.clock_stopped_at), dispute.hard_stop_at)
        _remind(dispute, min(ends))
        return
    dispute.deadline_at = min(dispute.rule_by, dispute.hard_stop_at)
    if dispute.escalated_at is None:
        _remind(dispute, dispute.rule_by - timedelta(seconds=dispute.ruling_seconds / 2))
    else:
        dispute.remind_at = None


def _enter_review(dispute: Dispute, at: datetime) -> None:
    """Begin the time for a ruling; a ruling that was returned does not begin it anew."""
    if dispute.entered_review_at is None:
        dispute.entered_review_at = at
        dispute.rule_by = at + timedelta(seconds=dispute.ruling_seconds)
    set_review_clock(dispute)


def _remind(dispute: Dispute, at: datetime) -> None:
    assert dispute.deadline_at is not None  # noqa: S101 (set before)
    dispute.remind_at = at if at < dispute.deadline_at else None


def _open_questions(dispute: Dispute) -> list[datetime]:
    return [by for by in (dispute.question_to_client_by, dispute.question_to_seller_by) if by]
