"""
The life of a job: one table, and the one function that obeys it.

Nobody else compares job states. Row numbers are those of docs/jobs.md (and of the README).
"""

import enum
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings

from accounts.errors import DomainError, NotFound
from accounts.events import log
from accounts.models import Agent
from marketplace import effects, reminders
from marketplace.models import Job, State, Transition


class Action(enum.StrEnum):
    PROPOSE = "propose"
    COUNTER = "counter"
    AGREE = "agree"
    DECLINE = "decline"
    LAPSE = "lapse"
    FUND = "fund"
    START = "start"
    DELIVER = "deliver"
    APPROVE = "approve"
    AUTO_APPROVE = "auto_approve"
    REQUEST_REVISION = "request_revision"
    ABORT = "abort"
    FAIL = "fail"
    DISPUTE = "dispute"
    SETTLE = "settle"
    RESOLVE = "resolve"
    REDO = "redo"
    RESUME = "resume"


class Role(enum.StrEnum):
    CLIENT = "client"
    SELLER = "seller"
    SYSTEM = "system"
    MODERATOR = "moderator"

    @property
    def other(self) -> "Role":
        return Role.SELLER if self == Role.CLIENT else Role.CLIENT


class TransitionNotAllowed(DomainError):
    """The table has no such step from here, for this party, at this moment."""

    code = "transition_not_allowed"
    title = "The job does not allow this now"


# --- conditions: each says why not, or None -------------------------------------------------------------------------
Condition = Callable[[Job, Role, datetime], str | None]


def judged_at(job: Job, at: datetime) -> datetime:
    """Say by which moment the clock of a job is judged: while clocks stand still, when they stopped."""
    return min(at, job.stands_since) if job.stands_since else at


def their_turn(job: Job, role: Role, at: datetime) -> str | None:
    return None if job.awaiting == role else "It is the other side's turn: nobody agrees to their own offer."


def offer_lives(job: Job, role: Role, at: datetime) -> str | None:
    return None if job.deadline_at and judged_at(job, at) < job.deadline_at else "The offer has lapsed."


def rounds_left(job: Job, role: Role, at: datetime) -> str | None:
    return None if job.offers_count < job.max_rounds else f"All {job.max_rounds} rounds are used: agree or decline."


def before_the_clock(job: Job, role: Role, at: datetime) -> str | None:
    return None if job.deadline_at and judged_at(job, at) < job.deadline_at else "The time for this is over."


def the_clock_is_over(job: Job, role: Role, at: datetime) -> str | None:
    if job.stands_since:
        return "Clocks stand still: an outage is not over."
    return None if job.deadline_at and at >= job.deadline_at else "The time is not over yet."


def revisions_left(job: Job, role: Role, at: datetime) -> str | None:
    return None if job.revisions_used < job.max_revisions else f"All {job.max_revisions} revisions are used."


def deliveries_left(job: Job, role: Role, at: datetime) -> str | None:
    return None if job.deliveries_count < job.max_deliveries else f"All {job.max_deliveries} deliveries are made."


def dispute_left(job: Job, role: Role, at: datetime) -> str | None:
    return None if getattr(job, f"{role}_disputes_left") else "Each side may open one dispute about a job."


def redo_left(job: Job, role: Role, at: datetime) -> str | None:
    return None if job.redos_left else "The work was done again once already."


def before_a_ruling(job: Job, role: Role, at: datetime) -> str | None:
    return "The case is ruled." if job.settlement_closed else None


# --- the table ------------------------------------------------------------------------------------------------------
class Rule(NamedTuple):
    """One row: who may take a job from one of these states to another, and when."""

    row: str
    action: Action
    origin: frozenset[State]
    by: frozenset[Role]
    to: State
    when: tuple[Condition, ...] = ()


def _row(row: str, action: Action, origin: Any, by: Any, to: State, *when: Condition) -> Rule:
    return Rule(row, action, frozenset(origin), frozenset(by), to, when)


S, A = State, Action
CLIENT, SELLER, SYSTEM, MODERATOR = Role.CLIENT, Role.SELLER, Role.SYSTEM, Role.MODERATOR
EITHER = {CLIENT, SELLER}
WORKING = {S.FUNDED, S.IN_PROGRESS}
HELD = {S.FUNDED, S.IN_PROGRESS, S.DELIVERED, S.REVISING, S.DISPUTED}

# fmt: off
RULES: tuple[Rule, ...] = (
    _row("1",   A.PROPOSE,          set(),                    {CLIENT},    S.NEGOTIATING),
    _row("2",   A.COUNTER,          {S.NEGOTIATING},          EITHER,      S.NEGOTIATING, their_turn, offer_lives, rounds_left),
    _row("3",   A.AGREE,            {S.NEGOTIATING},          EITHER,      S.AGREED,      their_turn, offer_lives),
    _row("4",   A.DECLINE,          {S.NEGOTIATING},          EITHER,      S.CANCELLED),
    _row("5",   A.LAPSE,            {S.NEGOTIATING},          {SYSTEM},    S.EXPIRED,     the_clock_is_over),
    _row("6",   A.FUND,             {S.AGREED},               {CLIENT},    S.FUNDED),
    _row("7",   A.DECLINE,          {S.AGREED},               EITHER,      S.CANCELLED),
    _row("8",   A.LAPSE,            {S.AGREED},               {SYSTEM},    S.EXPIRED,     the_clock_is_over),
    _row("9",   A.START,            {S.FUNDED},               {SELLER},    S.IN_PROGRESS, before_the_clock),
    _row("10",  A.DELIVER,          WORKING,                  {SELLER},    S.DELIVERED,   before_the_clock),
    _row("11",  A.ABORT,            WORKING,                  {CLIENT},    S.CANCELLED,   before_the_clock),
    _row("12",  A.ABORT,            WORKING | {S.REVISING},   {SELLER},    S.CANCELLED),
    _row("13",  A.FAIL,             WORKING,                  {SYSTEM},    S.FAILED,      the_clock_is_over),
    _row("14",  A.APPROVE,          {S.DELIVERED},            {CLIENT},    S.COMPLETED),
    _row("15",  A.AUTO_APPROVE,     {S.DELIVERED},            {SYSTEM},    S.COMPLETED,   the_clock_is_over),
    _row("17",  A.REQUEST_REVISION, {S.DELIVERED},            {CLIENT},    S.REVISING,    before_the_clock, revisions_left, deliveries_left),
    _row("19",  A.DELIVER,          {S.REVISING},             {SELLER},    S.DELIVERED,   before_the_clock, deliveries_left),
    _row("20",  A.FAIL,             {S.REVISING},             {SYSTEM},    S.FAILED,      the_clock_is_over),
    _row("21",  A.DISPUTE,          {S.IN_PROGRESS, S.REVISING}, EITHER,   S.DISPUTED,    before_the_clock, dispute_left),
    _row("21",  A.DISPUTE,          {S.DELIVERED},            {CLIENT},    S.DISPUTED,    before_the_clock, dispute_left),
    _row("22",  A.SETTLE,           HELD,                     EITHER,      S.RESOLVED,    before_a_ruling),
    _row("23",  A.RESOLVE,          {S.DISPUTED},             {MODERATOR, SYSTEM}, S.RESOLVED),
    _row("23",  A.REDO,             {S.DISPUTED},             {MODERATOR, SYSTEM}, S.REVISING, redo_left),
    _row("24",  A.RESUME,           {S.DISPUTED},             EITHER,      S.IN_PROGRESS),  # or where it was frozen
)
# fmt: on

# What silence does in each living state; `disputed` is under the clock of its dispute, which its own sweep enforces.
TIME: dict[State, Action] = {
    S.NEGOTIATING: A.LAPSE,
    S.AGREED: A.LAPSE,
    S.FUNDED: A.FAIL,
    S.IN_PROGRESS: A.FAIL,
    S.DELIVERED: A.AUTO_APPROVE,
    S.REVISING: A.FAIL,
}
AWAITING: dict[State, Role] = {
    S.AGREED: CLIENT,
    S.FUNDED: SELLER,
    S.IN_PROGRESS: SELLER,
    S.DELIVERED: CLIENT,
    S.REVISING: SELLER,
}
EVENTS: dict[Action, str] = {
    A.PROPOSE: "job.proposed",
    A.COUNTER: "job.countered",
    A.AGREE: "job.agreed",
    A.DECLINE: "job.declined",
    A.LAPSE: "job.expired",
    A.FUND: "job.funded",
    A.START: "job.started",
    A.DELIVER: "job.delivered",
    A.APPROVE: "job.approved",
    A.AUTO_APPROVE: "job.auto_approved",
    A.REQUEST_REVISION: "job.revision_requested",
    A.ABORT: "job.aborted",
    A.FAIL: "job.failed",
    A.DISPUTE: "job.disputed",
    A.SETTLE: "job.settled",
    A.RESOLVE: "job.resolved",
    A.REDO: "job.revision_requested",
    A.RESUME: "job.resumed",
}


# --- asking the table -----------------------------------------------------------------------------------------------
def advance(
    job: Job,
    action: Action,
    *,
    by: Role,
    note: str = "",
    clock: datetime | None = None,
    clock_from: datetime | None = None,
    **changes: Any,
) -> Job:
    """
    Take one step: check the table, move the job (locked, at `job.at`), write its transition, tell both parties.

    `changes` are further columns that this step sets; `clock` is a deadline that runs on instead of beginning anew, as
    it was started at `clock_from`.

    :raises TransitionNotAllowed: if no row of the table allows it
    """
    rule = rule_for(job, action, by, job.at)
    origin, to = job.state, State(job.frozen_state) if action == A.RESUME else rule.to
    for name, value in changes.items():
        setattr(job, name, value)
    _enter(job, to, job.at, clock, clock_from)
    job.save(update_fields=[*_MOVED, *changes])
    write(job, action, by=by, origin=origin, note=note)
    return job


def write(job: Job, action: Action, *, by: Role, origin: str, note: str = "") -> None:
    """Put a step on the time line and tell both parties."""
    Transition.objects.bulk_create([
        Transition(
            job_id=job.id, revision=job.revision, action=action, by=by,
            from_state=origin, to_state=job.state, note=note, occurred_at=job.at,
        )
    ])  # fmt: skip
    data = {"job_id": str(job.id), "state": job.state, "revision": job.revision, "by": by}
    if job.dispute_id:
        data["dispute_id"] = str(job.dispute_id)
    log.record(EVENTS[action], to=[job.client_id, job.seller_id], data=data, at=job.at)


def rule_for(job: Job, action: Action, by: Role, at: datetime) -> Rule:
    """
    Find the row that allows the action.

    :raises TransitionNotAllowed: with the state and what this party may do instead
    """
    why = f"Nobody can {action} a job that is {job.state}."
    for rule in RULES:
        if rule.action != action or job.state not in rule.origin:
            continue
        if by not in rule.by:
            why = f"The {by} cannot {action} a job that is {job.state}."
            continue
        refusals = (condition(job, by, at) for condition in rule.when)
        why = next((refusal for refusal in refusals if refusal), "")
        if not why:
            return rule
        break
    raise TransitionNotAllowed(why, state=job.state, available_actions=[str(a) for a in available(job, by, at)])


def available(job: Job, by: Role, at: datetime) -> list[Action]:
    """List what a party may do now, in the order of the table."""
    found = [
        rule.action
        for rule in RULES
        if job.state in rule.origin
        and by in rule.by
        and rule.action != A.RESUME  # a withdrawal of the dispute, which the dispute lists
        and not any(condition(job, by, at) for condition in rule.when)
    ]
    return list(dict.fromkeys(found))


def due_action(job: Job) -> Action | None:
    """Name what the job's clock does when it runs out."""
    return TIME.get(State(job.state))


def holds_money(job: Job) -> bool:
    """Say whether price and bond are held for the job."""
    return job.state in HELD


# --- rows and parties -----------------------------------------------------------------------------------------------
def role_of(agent: Agent, job: Job) -> Role:
    """
    Say which party the agent is.

    :raises NotFound: for a stranger, who cannot tell a foreign job from none
    """
    if agent.id == job.client_id:
        return CLIENT
    if agent.id == job.seller_id:
        return SELLER
    raise NotFound


def party_of(role: Role, job: Job) -> Agent:
    return job.client if role == CLIENT else job.seller


# --- entering a state -----------------------------------------------------------------------------------------------
_MOVED = [
    "state", "revision", "awaiting", "deadline_at", "deadline_from", "near_at", "deadline_action", "deadline_effect", "deadline_failures",
    "deadline_retry_at", "client_settlement_bps", "seller_settlement_bps", "deliver_by", "review_by", "revise_by",
    "updated_at", "closed_at",
]  # fmt: skip


def _enter(job: Job, state: State, at: datetime, clock: datetime | None, clock_from: datetime | None) -> None:
    job.state = state
    job.revision += 1
    job.updated_at = at
    job.client_settlement_bps = job.seller_settlement_bps = None
    start_clock(job, at)
    if clock:
        job.deadline_at = clock
        setattr(job, CLOCK_COLUMN[state], clock)
        remind(job, at)
        job.deadline_from = clock_from or at
    if state in AWAITING:
        job.awaiting = AWAITING[state]


# Where the clock of a state is kept after the state is left.
CLOCK_COLUMN: dict[State, str] = {S.IN_PROGRESS: "deliver_by", S.DELIVERED: "review_by", S.REVISING: "revise_by"}


def start_clock(job: Job, at: datetime) -> None:
    """Start the clock of the job's state from the windows in its row, and say in words what it will do."""
    state = State(job.state)
    match state:
        case S.NEGOTIATING:
            job.deadline_at = at + timedelta(seconds=job.offer_seconds)
        case S.AGREED:
            job.deadline_at = at + timedelta(seconds=settings.FUNDING_SECONDS)
        case S.FUNDED:
            job.deadline_at = job.deliver_by = at + timedelta(seconds=job.delivery_seconds)
        case S.IN_PROGRESS:
            job.deadline_at = job.deliver_by
        case S.DELIVERED:
            job.deadline_at = job.review_by = at + timedelta(seconds=job.review_seconds)
        case S.REVISING:
            requested = at + timedelta(seconds=job.revision_seconds)
            job.deadline_at = job.revise_by = max(job.deliver_by or requested, requested)
        case S.DISPUTED:
            job.deadline_action = A.RESOLVE  # its time and effect are the dispute's
        case _:
            job.deadline_at, job.awaiting, job.closed_at = None, None, at
    job.deadline_failures, job.deadline_retry_at = 0, None
    if state != S.IN_PROGRESS:  # the clock of a job that was funded runs on
        remind(job, at)
    if state != S.DISPUTED:
        job.deadline_action = TIME.get(state, "")
        job.deadline_effect = effects.of_silence(job, job.deadline_action)


def remind(job: Job, at: datetime) -> None:
    """Note when the job's clock was started, and when both parties are to be reminded of it."""
    job.deadline_from = job.near_at = None
    if job.deadline_at is not None:
        job.deadline_from = at
        job.near_at = reminders.moment(at, job.deadline_at)
