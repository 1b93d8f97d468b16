"""
The life of a case: one table, and the one function that obeys it.

Nobody else compares dispute states. Row numbers are those of docs/disputes.md. Rows that are not there yet (assigning
by the system, questions, the second person, appeals) are further lines of the same table: their states, clocks and
columns exist.
"""

import enum
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from accounts import clock
from accounts.errors import DomainError, NotFound
from accounts.models import Agent, User
from disputes.models import Dispute, DisputeTransition, Party

S = Dispute.State


class Action(enum.StrEnum):
    OPEN = "open"
    ANSWER = "answer"
    GO_UNANSWERED = "go_unanswered"
    SUBMIT_EVIDENCE = "submit_evidence"
    CLOSE_EVIDENCE = "close_evidence"
    SETTLE = "settle"
    WITHDRAW = "withdraw"
    TAKE = "take"
    RULE = "rule"
    FINALISE = "finalise"
    HARD_STOP = "hard_stop"


class Who(enum.StrEnum):
    """Who acts on a case: a party by its part in the quarrel, staff, or time itself."""

    OPENER = "opener"
    RESPONDENT = "respondent"
    MODERATOR = "moderator"
    SYSTEM = "system"


class TransitionNotAllowed(DomainError):
    """The table has no such step from here, for this party, at this moment."""

    code = "transition_not_allowed"
    title = "The case does not allow this now"


# --- conditions: each says why not, or None -------------------------------------------------------------------------
Condition = Callable[[Dispute, Who, datetime], str | None]


def before_the_clock(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if dispute.deadline_at and at < dispute.deadline_at else "The time for this is over."


def before_the_hard_stop(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if at < dispute.hard_stop_at else "The case has reached its end of time."


def the_clock_is_over(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if dispute.deadline_at and at >= dispute.deadline_at else "The time is not over yet."


def the_hard_stop_is_reached(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if at >= dispute.hard_stop_at else "The case has time left."


def nobody_answered(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if dispute.answered_at is None else "The case was answered: from then on it takes both sides."


# --- the table ------------------------------------------------------------------------------------------------------
class Rule(NamedTuple):
    row: str
    action: Action
    origin: frozenset[str]
    by: frozenset[Who]
    to: str | None  # None: the state stays
    when: tuple[Condition, ...]


def _row(row: str, action: Action, origin: Any, by: set[Who], to: str | None, *when: Condition) -> Rule:
    return Rule(row, action, frozenset(origin), frozenset(by), to, when)


A = Action
OPENER, RESPONDENT, MODERATOR, SYSTEM = Who.OPENER, Who.RESPONDENT, Who.MODERATOR, Who.SYSTEM
PARTIES = {OPENER, RESPONDENT}
BEFORE_A_RULING = {S.AWAITING_ANSWER, S.EVIDENCE, S.UNDER_REVIEW, S.AWAITING_APPROVAL}

# fmt: off
RULES: tuple[Rule, ...] = (
    #    row   action             from                             by            to              when
    _row("2",  A.ANSWER,          {S.AWAITING_ANSWER},             {RESPONDENT}, S.EVIDENCE,     before_the_clock),
    _row("3",  A.GO_UNANSWERED,   {S.AWAITING_ANSWER},             {SYSTEM},     S.UNDER_REVIEW, the_clock_is_over),
    _row("4",  A.SUBMIT_EVIDENCE, {S.AWAITING_ANSWER, S.EVIDENCE}, PARTIES,      None,           before_the_clock),
    _row("5",  A.CLOSE_EVIDENCE,  {S.EVIDENCE},                    {SYSTEM},     S.UNDER_REVIEW, the_clock_is_over),
    _row("6",  A.SETTLE,          BEFORE_A_RULING,                 PARTIES,      S.SETTLED,      before_the_hard_stop),
    _row("7",  A.WITHDRAW,        BEFORE_A_RULING,                 {OPENER},     S.WITHDRAWN,    before_the_hard_stop,
                                                                                                 nobody_answered),
    _row("8",  A.TAKE,            {S.UNDER_REVIEW},                {MODERATOR},  None,           before_the_hard_stop),
    _row("10", A.RULE,            {S.UNDER_REVIEW},                {MODERATOR},  S.RULED,        before_the_hard_stop),
    _row("15", A.FINALISE,        {S.RULED},                       {SYSTEM},     S.FINAL,        the_clock_is_over),
    _row("18", A.HARD_STOP,       set(Dispute.LIVE),               {SYSTEM},     S.FINAL,
                                                                                      the_hard_stop_is_reached),
)

# What silence does in each living state; the hard stop comes before it wherever it is earlier.
TIME: dict[str, Action] = {
    S.AWAITING_ANSWER:   A.GO_UNANSWERED,
    S.EVIDENCE:          A.CLOSE_EVIDENCE,
    S.UNDER_REVIEW:      A.HARD_STOP,
    S.AWAITING_APPROVAL: A.HARD_STOP,
    S.RULED:             A.FINALISE,
    S.APPEALED:          A.HARD_STOP,
}

# The clock that a state starts when it is entered: the column that tells it, the window it takes from the row.
CLOCKS: dict[str, tuple[str, str]] = {
    S.AWAITING_ANSWER: ("answer_by", "answer_seconds"),
    S.EVIDENCE:        ("evidence_by", "evidence_seconds"),
    S.RULED:           ("appeal_by", "appeal_seconds"),
}
# fmt: on

AWAITING: dict[str, str] = {
    S.UNDER_REVIEW: "moderator",
    S.AWAITING_APPROVAL: "moderator",
    S.APPEALED: "moderator",
}


# --- asking the table -----------------------------------------------------------------------------------------------
def advance(
    dispute: Dispute,
    action: Action,
    *,
    by: Who,
    at: datetime,
    user: User | None = None,
    note: str = "",
    **changes: Any,
) -> Dispute:
    """
    Take one step of a case that is locked: check the table, start the clock of the new state, write the time line.

    `changes` are further columns that this step sets; `user` is the member of staff, `note` is shown to the parties.

    :raises TransitionNotAllowed: if no row of the table allows it
    """
    rule = rule_for(dispute, action, by, at)
    origin = dispute.state
    for name, value in changes.items():
        setattr(dispute, name, value)
    if rule.to is not None:
        enter(dispute, rule.to, at)
    dispute.revision += 1
    dispute.save(update_fields=[*_MOVED, *changes])
    write(dispute, action, by=by, at=at, origin=origin, user=user, note=note)
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
    """Name what the clock of a case does when it runs out."""
    return A.HARD_STOP if at >= dispute.hard_stop_at else TIME[dispute.state]


def next_action(dispute: Dispute) -> Action:
    """Name what silence will do."""
    return due_action(dispute, dispute.deadline_at or dispute.hard_stop_at)


def awaits_ruling(dispute: Dispute) -> bool:
    return dispute.state == S.UNDER_REVIEW


def enter(dispute: Dispute, state: str, at: datetime) -> None:
    """Enter a state: its own clock from the window in the row, never beyond the hard stop."""
    dispute.state = state
    dispute.due_attempts, dispute.due_retry_at = 0, None
    if state in Dispute.CLOSED:
        dispute.deadline_at, dispute.closed_at = None, at
        return
    dispute.deadline_at = dispute.hard_stop_at
    if state in CLOCKS:
        column, window = CLOCKS[state]
        ends_at = at + timedelta(seconds=getattr(dispute, window))
        setattr(dispute, column, ends_at)
        dispute.deadline_at = min(ends_at, dispute.hard_stop_at)
    if state == S.UNDER_REVIEW and dispute.entered_review_at is None:
        dispute.entered_review_at = at
        dispute.rule_by = at + timedelta(seconds=dispute.ruling_seconds)


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
    Lock a case, and both agents' rows are read with it.

    :raises NotFound: if there is none (or, with `skip_locked`, if somebody else holds it)
    """
    rows = Dispute.objects.select_for_update(no_key=True, of=("self",), skip_locked=skip_locked)
    dispute = rows.select_related("client", "seller").filter(pk=dispute_id).first()
    if dispute is None:
        raise NotFound("There is no such case.")
    return dispute


def lock_live_of(job_id: UUID) -> Dispute | None:
    """Lock the live case of a job, if there is one."""
    rows = Dispute.objects.select_for_update(no_key=True, of=("self",)).select_related("client", "seller")
    return rows.filter(job_id=job_id, state__in=Dispute.LIVE).first()


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
    return OPENER if agent.id == dispute.opener_id else RESPONDENT


def party_of(agent: Agent, dispute: Dispute) -> str:
    """
    Say which role the agent has in the job.

    :raises NotFound: for a stranger
    """
    return role_named(dispute, who_of(agent, dispute))


def role_named(dispute: Dispute, who: Who) -> str:
    match who:
        case Who.OPENER:
            return Party(dispute.opened_by).value
        case Who.RESPONDENT:
            return Party(dispute.respondent_role).value
    return who.value


_MOVED = [
    "state", "revision", "deadline_at", "closed_at", "answer_by", "evidence_by", "rule_by", "appeal_by",
    "entered_review_at", "due_attempts", "due_retry_at",
]  # fmt: skip


def _words(name: str) -> str:
    return str(name).replace("_", " ")
