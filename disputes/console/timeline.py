"""One line for everything that happened in a job and its case, in order, from rows that are read already."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from disputes.lifecycle import Action
from disputes.models import Assignment, DisputeTransition, Evidence, Question, Ruling
from marketplace.models import Delivery, Job, Offer, Transition

HANDS = {Action.ASSIGN, Action.TAKE, Action.REASSIGN, Action.RECUSE, Action.ESCALATE}
RULED = {Action.RULE, Action.PROPOSE_RULING, Action.RULE_BY_DEFAULT, Action.REPLACE, Action.PROPOSE_REPLACEMENT}


class Step(NamedTuple):
    """One line of the time line."""

    at: datetime
    by: str  # client, seller, moderator, system
    what: str
    detail: str
    about: str  # offer, job or case: the colour of the dot
    name: str = ""  # of the member of staff; parties never see it
    anchor: str = ""  # where the page shows it whole
    revision: int = 0  # of the case, for its own steps


def of_case(
    job: Job,
    *,
    offers: Sequence[Offer],
    job_steps: Sequence[Transition],
    case_steps: Sequence[DisputeTransition],
    deliveries: Sequence[Delivery],
    items: Sequence[Evidence],
    questions: Sequence[Question],
    rulings: Sequence[Ruling],
    assignments: Sequence[Assignment],
) -> list[Step]:
    """Put offers, the job's steps and the case's steps into one order of time."""
    steps = [
        *_offers(job, offers),
        *_job(job_steps, deliveries),
        *_case(case_steps, items=items, questions=questions, rulings=rulings, assignments=assignments),
    ]
    return sorted(steps, key=lambda step: step.at)


def since(steps: Sequence[Step], revision: int) -> list[Step]:
    """List the case's steps after a revision that somebody had read."""
    return [step for step in steps if step.revision > revision]


def _offers(job: Job, offers: Sequence[Offer]) -> Iterator[Step]:
    for offer in offers:
        by = "client" if offer.author_id == job.client_id else "seller"
        yield Step(
            offer.created_at, by, f"offer {offer.number}", offer.message, "offer", anchor=f"offer-{offer.number}"
        )


def _job(steps: Sequence[Transition], deliveries: Sequence[Delivery]) -> Iterator[Step]:
    numbered = iter(deliveries)
    for step in steps:
        if step.action in ("propose", "counter", "dispute"):
            continue  # the offer itself says it; the case's own first line does
        detail, anchor = step.note, ""
        if step.action == "deliver" and (row := next(numbered, None)):
            detail = f"delivery {row.number}, {row.size:,} bytes. {row.note}".strip()
            anchor = f"delivery-{row.number}"
        yield Step(step.occurred_at, step.by, _words(step.action), detail, "job", anchor=anchor)


def _case(
    steps: Sequence[DisputeTransition],
    *,
    items: Sequence[Evidence],
    questions: Sequence[Question],
    rulings: Sequence[Ruling],
    assignments: Sequence[Assignment],
) -> Iterator[Step]:
    changes = list(assignments)
    for step in steps:
        detail, anchor = step.note, ""
        if step.action in HANDS:
            change = next((one for one in changes if one.at == step.occurred_at), None)
            if change is not None:
                changes.remove(change)
                detail = _handed(change)
        elif step.action == Action.SUBMIT_EVIDENCE:
            item = next((one for one in items if f"item {one.number}" == step.note), None)
            anchor = f"item-{item.number}" if item else ""
        elif step.action in (Action.ASK, Action.ANSWER_QUESTION):
            moment = "asked_at" if step.action == Action.ASK else "answered_at"
            asked = next((one for one in questions if getattr(one, moment) == step.occurred_at), None)
            if asked is not None:
                detail, anchor = f"question {asked.number} to the {asked.to}", f"question-{asked.number}"
        elif step.action in RULED:
            made = next((one for one in rulings if one.ruled_at == step.occurred_at), None)
            if made is not None:
                detail, anchor = verdict(made), f"ruling-{made.number}"
        elif step.action == Action.APPEAL:
            anchor = "appeal"
        yield Step(
            step.occurred_at,
            step.by,
            _words(step.action),
            detail,
            "case",
            name=step.user.get_username() if step.user else "",
            anchor=anchor,
            revision=step.revision,
        )
    for change in changes:
        by, name = ("moderator", change.by.get_username()) if change.by else ("system", "")
        yield Step(change.at, by, _words(change.how), _handed(change), "case", name=name)


def verdict(ruling: Ruling) -> str:
    """Say what a ruling decided, in a few words."""
    if ruling.redo:
        return "the work is done again"
    return f"{(ruling.seller_bps or 0) / 100:g} % to the seller"


def _handed(change: Assignment) -> str:
    to = f"to {change.to.get_username()}" if change.to else "to nobody"
    return f"{to}: {change.reason}" if change.reason else f"{to} ({change.get_how_display().lower()})"


def _words(action: Any) -> str:
    return str(action).replace("_", " ")
