"""
The table of cases: who may take a case from which state to which, and when; and what silence does.

Row numbers are those of docs/disputes.md. Nobody else compares dispute states; lifecycle.py obeys the table, clocks.py
says how long a state lasts. Whether a member of staff is fit to act (assigned, without a stake, not the author) is
assignment.py's to say.
"""

import enum
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from disputes import clocks, decisions, rulings
from disputes.models import Dispute, Party

S = Dispute.State


class Action(enum.StrEnum):
    OPEN = "open"
    ANSWER = "answer"
    GO_UNANSWERED = "go_unanswered"
    SUBMIT_EVIDENCE = "submit_evidence"
    CLOSE_EVIDENCE = "close_evidence"
    SETTLE = "settle"
    WITHDRAW = "withdraw"
    ASK_WITHDRAWAL = "ask_withdrawal"
    CONSENT_TO_WITHDRAWAL = "consent_to_withdrawal"
    ASSIGN = "assign"
    TAKE = "take"
    REASSIGN = "reassign"
    RECUSE = "recuse"
    ASK = "ask"
    ANSWER_QUESTION = "answer_question"
    QUESTION_LAPSES = "question_lapses"
    ESCALATE = "escalate"
    RULE = "rule"
    PROPOSE_RULING = "propose_ruling"
    APPROVE = "approve"
    RETURN = "return"
    ASK_SENIOR = "ask_senior"
    RULE_BY_DEFAULT = "rule_by_default"
    APPEAL = "appeal"
    FINALISE = "finalise"
    UPHOLD = "uphold"
    REPLACE = "replace"
    PROPOSE_REPLACEMENT = "propose_replacement"
    APPEAL_LAPSES = "appeal_lapses"
    HARD_STOP = "hard_stop"


class Who(enum.StrEnum):
    """Who acts on a case: a party by its part in the quarrel, staff, or time itself."""

    OPENER = "opener"
    RESPONDENT = "respondent"
    MODERATOR = "moderator"
    SENIOR = "senior"
    SYSTEM = "system"


# --- conditions: each says why not, or None -------------------------------------------------------------------------
Condition = Callable[[Dispute, Who, datetime], str | None]

STANDING_STILL = "Clocks stand still: an outage is not over."


def judged_at(dispute: Dispute, at: datetime) -> datetime:
    """Say by which moment the clocks of a case are judged: while clocks stand still, when they stopped."""
    return min(at, dispute.stands_since) if dispute.stands_since else at


def before_the_clock(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return (
        None if dispute.deadline_at and judged_at(dispute, at) < dispute.deadline_at else "The time for this is over."
    )


def before_the_hard_stop(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if judged_at(dispute, at) < dispute.hard_stop_at else "The case has reached its end of time."


def the_clock_is_over(dispute: Dispute, who: Who, at: datetime) -> str | None:
    if dispute.stands_since:
        return STANDING_STILL
    return None if dispute.deadline_at and at >= dispute.deadline_at else "The time is not over yet."


def the_hard_stop_is_reached(dispute: Dispute, who: Who, at: datetime) -> str | None:
    if dispute.stands_since:
        return STANDING_STILL
    return None if at >= dispute.hard_stop_at else "The case has time left."


def the_reminder_is_due(dispute: Dispute, who: Who, at: datetime) -> str | None:
    if dispute.stands_since:
        return STANDING_STILL
    return None if dispute.remind_at and at >= dispute.remind_at else "It is too early for this."


def nobody_answered(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if dispute.answered_at is None else "The case was answered: from then on it takes both sides."


def it_was_answered(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if dispute.answered_at is not None else "Nobody answered: the opener may withdraw alone."


def nobody_asked_to_withdraw(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if dispute.withdrawal_asked_at is None else "You have asked already; the other side must consent."


def the_opener_asked_to_withdraw(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if dispute.withdrawal_asked_at is not None else "The opener has not asked to withdraw the case."


def asked_and_in_time(dispute: Dispute, who: Who, at: datetime) -> str | None:
    asked_until = clocks.question_by(dispute, role_named(dispute, who))
    return (
        None
        if asked_until and judged_at(dispute, at) < asked_until
        else "No question to you is open: evidence is closed."
    )


def no_question_is_open(dispute: Dispute, who: Who, at: datetime) -> str | None:
    open_until = [by for side in Party.values if (by := clocks.question_by(dispute, side))]
    at = judged_at(dispute, at)
    return "A question is open: wait for its answer or its end." if any(at < by for by in open_until) else None


def lost_something(dispute: Dispute, who: Who, at: datetime) -> str | None:
    ruling = rulings.standing(dispute)
    if ruling is not None and decisions.may_appeal(dispute, ruling, role_named(dispute, who)):
        return None
    return "The ruling gives you what you asked for: there is nothing to appeal."


def a_ruling_is_proposed(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return None if rulings.proposed(dispute) else "No ruling is proposed."


def no_ruling_is_proposed(dispute: Dispute, who: Who, at: datetime) -> str | None:
    return "A ruling is proposed: it waits for a second person." if rulings.proposed(dispute) else None


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
OPENER, RESPONDENT, SYSTEM = Who.OPENER, Who.RESPONDENT, Who.SYSTEM
MODERATOR, SENIOR = Who.MODERATOR, Who.SENIOR
PARTIES = {OPENER, RESPONDENT}
STAFF = {MODERATOR, SENIOR}
BEFORE_A_RULING = {S.AWAITING_ANSWER, S.EVIDENCE, S.UNDER_REVIEW, S.AWAITING_APPROVAL}

# fmt: off
RULES: tuple[Rule, ...] = (
    #    row   action                   from                             by            to                   when
    _row("2",  A.ANSWER,                {S.AWAITING_ANSWER},             {RESPONDENT}, S.EVIDENCE,          before_the_clock),
    _row("3",  A.GO_UNANSWERED,         {S.AWAITING_ANSWER},             {SYSTEM},     S.UNDER_REVIEW,      the_clock_is_over),
    _row("4",  A.SUBMIT_EVIDENCE,       {S.AWAITING_ANSWER, S.EVIDENCE}, PARTIES,      None,                before_the_clock),
    _row("5",  A.CLOSE_EVIDENCE,        {S.EVIDENCE},                    {SYSTEM},     S.UNDER_REVIEW,      the_clock_is_over),
    _row("6",  A.SETTLE,                BEFORE_A_RULING,                 PARTIES,      S.SETTLED,           before_the_hard_stop),
    _row("7",  A.WITHDRAW,              BEFORE_A_RULING,                 {OPENER},     S.WITHDRAWN,         before_the_hard_stop, nobody_answered),
    _row("7",  A.ASK_WITHDRAWAL,        BEFORE_A_RULING,                 {OPENER},     None,                before_the_hard_stop, it_was_answered, nobody_asked_to_withdraw),
    _row("7",  A.CONSENT_TO_WITHDRAWAL, BEFORE_A_RULING,                 {RESPONDENT}, S.WITHDRAWN,         before_the_hard_stop, the_opener_asked_to_withdraw),
    _row("8",  A.ASSIGN,                {S.UNDER_REVIEW, S.APPEALED},    {SYSTEM},     None,                before_the_hard_stop),
    _row("8",  A.TAKE,                  {S.UNDER_REVIEW},                {MODERATOR},  None,                before_the_hard_stop),
    _row("8",  A.TAKE,                  {S.APPEALED},                    {SENIOR},     None,                before_the_hard_stop),
    _row("8",  A.REASSIGN,              {S.UNDER_REVIEW, S.APPEALED},    STAFF,        None,                before_the_hard_stop),
    _row("8",  A.RECUSE,                {S.UNDER_REVIEW, S.APPEALED},    STAFF,        None,                before_the_hard_stop),
    _row("9",  A.ASK,                   {S.UNDER_REVIEW},                {MODERATOR},  None,                before_the_clock, before_the_hard_stop),
    _row("9",  A.ANSWER_QUESTION,       {S.UNDER_REVIEW},                PARTIES,      None,                asked_and_in_time),
    _row("9",  A.SUBMIT_EVIDENCE,       {S.UNDER_REVIEW},                PARTIES,      None,                asked_and_in_time),
    _row("9",  A.QUESTION_LAPSES,       {S.UNDER_REVIEW},                {SYSTEM},     None,                the_reminder_is_due),
    _row("10", A.RULE,                  {S.UNDER_REVIEW},                {MODERATOR},  S.RULED,             before_the_hard_stop, no_question_is_open),
    _row("10", A.PROPOSE_RULING,        {S.UNDER_REVIEW},                {MODERATOR},  S.AWAITING_APPROVAL, before_the_hard_stop, no_question_is_open),
    _row("11", A.APPROVE,               {S.AWAITING_APPROVAL},           {MODERATOR},  S.RULED,             before_the_hard_stop),
    _row("11", A.RETURN,                {S.AWAITING_APPROVAL},           {MODERATOR},  S.UNDER_REVIEW,      before_the_hard_stop),
    _row("12", A.ASK_SENIOR,            {S.AWAITING_APPROVAL},           {SYSTEM},     None,                the_reminder_is_due),
    _row("12", A.RULE_BY_DEFAULT,       {S.AWAITING_APPROVAL},           {SYSTEM},     S.RULED,             the_clock_is_over),
    _row("13", A.ESCALATE,              {S.UNDER_REVIEW},                {SYSTEM},     None,                the_reminder_is_due),
    _row("13", A.RULE_BY_DEFAULT,       {S.UNDER_REVIEW},                {SYSTEM},     S.RULED,             the_clock_is_over),
    _row("14", A.APPEAL,                {S.RULED},                       PARTIES,      S.APPEALED,          before_the_clock, lost_something),
    _row("15", A.FINALISE,              {S.RULED},                       {SYSTEM},     S.FINAL,             the_clock_is_over),
    _row("16", A.UPHOLD,                {S.APPEALED},                    {SENIOR},     S.FINAL,             before_the_hard_stop, no_ruling_is_proposed),
    _row("16", A.REPLACE,               {S.APPEALED},                    {SENIOR},     S.FINAL,             before_the_hard_stop, no_ruling_is_proposed),
    _row("16", A.PROPOSE_REPLACEMENT,   {S.APPEALED},                    {SENIOR},     None,                before_the_hard_stop, no_ruling_is_proposed),
    _row("16", A.APPROVE,               {S.APPEALED},                    {SENIOR},     S.FINAL,             before_the_hard_stop, a_ruling_is_proposed),
    _row("16", A.RETURN,                {S.APPEALED},                    {SENIOR},     None,                before_the_hard_stop, a_ruling_is_proposed),
    _row("17", A.APPEAL_LAPSES,         {S.APPEALED},                    {SYSTEM},     S.FINAL,             the_clock_is_over),
    _row("18", A.HARD_STOP,             set(Dispute.LIVE),               {SYSTEM},     S.FINAL,             the_hard_stop_is_reached),
)

# What silence does in each living state; the hard stop comes before it wherever it is earlier.
TIME: dict[str, Action] = {
    S.AWAITING_ANSWER:   A.GO_UNANSWERED,
    S.EVIDENCE:          A.CLOSE_EVIDENCE,
    S.UNDER_REVIEW:      A.RULE_BY_DEFAULT,
    S.AWAITING_APPROVAL: A.RULE_BY_DEFAULT,
    S.RULED:             A.FINALISE,
    S.APPEALED:          A.APPEAL_LAPSES,
}
# fmt: on

AWAITING: dict[str, str] = {
    S.UNDER_REVIEW: "moderator",
    S.AWAITING_APPROVAL: "moderator",
    S.APPEALED: "moderator",
}


def role_named(dispute: Dispute, who: Who) -> str:
    match who:
        case Who.OPENER:
            return Party(dispute.opened_by).value
        case Who.RESPONDENT:
            return Party(dispute.respondent_role).value
        case Who.SENIOR:
            return Who.MODERATOR.value
    return who.value
