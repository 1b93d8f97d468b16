"""What the system itself knows about a case. Shown beside the form, never deciding alone."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from disputes import evidence
from disputes.console import parties
from disputes.lifecycle import Action
from disputes.models import Dispute, DisputeTransition, Question
from disputes.templatetags.console import duration
from marketplace import terms
from marketplace.models import Delivery, Job, Offer, Transition

# Whose clock it was that ran out, for each step of time.
LET_RUN = {"fail": "the seller did not deliver in time", "auto_approve": "the client did not review in time"}


class Finding(NamedTuple):
    question: str
    answer: str
    # good, bad, or neither: the colour, never the decision
    tone: str = "neutral"


def of_case(
    dispute: Dispute,
    job: Job,
    *,
    agreed: Offer | None,
    deliveries: Sequence[Any],
    steps: Sequence[Transition],
    case_steps: Sequence[DisputeTransition],
    items: Sequence[Any],
    questions: Sequence[Question],
) -> list[Finding]:
    """
    List the facts: one statement for what the parties share, the rest from rows that are read already.

    Deliveries and items of evidence carry the SHA-256 that the database reckoned from their bytes as `digest`.
    """
    return [
        _terms(job, agreed),
        _in_time(job, deliveries),
        _digests(deliveries),
        _checks(dispute, agreed),
        Finding("Revisions used", f"{job.revisions_used} of {job.max_revisions}"),
        _opening(dispute),
        _silence(dispute, steps, case_steps, questions),
        _settlement(job),
        _chain(items),
        _related(dispute),
    ]


def _terms(job: Job, agreed: Offer | None) -> Finding:
    if agreed is None:
        return Finding("Terms both signed", "not found", "bad")
    if terms.hash_of(agreed.terms) == agreed.terms_hash == job.agreed_terms_hash:
        return Finding("Terms both signed", "their hash matches what both agreed to", "good")
    return Finding("Terms both signed", "their hash does not match", "bad")


def _in_time(job: Job, deliveries: Sequence[Delivery]) -> Finding:
    if not deliveries:
        return Finding("Delivered in time", "nothing was delivered", "bad")
    first = deliveries[0].delivered_at
    if job.deliver_by is None:
        return Finding("Delivered in time", "yes", "good")
    seconds = int((job.deliver_by - first).total_seconds())
    if seconds > 0:
        return Finding("Delivered in time", f"yes, with {duration(seconds)} to spare", "good")
    return Finding("Delivered in time", f"no, {duration(-seconds)} late", "bad")


def _digests(deliveries: Sequence[Any]) -> Finding:
    if not deliveries:
        return Finding("Digests of the deliveries", "nothing to check")
    wrong = [str(row.number) for row in deliveries if f"sha256:{bytes(row.digest).hex()}" != row.sha256]
    if wrong:
        return Finding("Digests of the deliveries", f"delivery {', '.join(wrong)} differs from its digest", "bad")
    for before, after in itertools.pairwise(deliveries):
        if before.sha256 == after.sha256:
            same = f"delivery {after.number} is byte for byte delivery {before.number}"
            return Finding("Digests of the deliveries", same, "bad")
    return Finding("Digests of the deliveries", "the bytes are those that were delivered", "good")


def _checks(dispute: Dispute, agreed: Offer | None) -> Finding:
    if dispute.checks_passed_at_opening is not None:
        passed = dispute.checks_passed_at_opening
        return Finding("Automatic checks", "all passed" if passed else "not all passed", "good" if passed else "bad")
    mode = (agreed.terms.get("acceptance") or {}).get("mode") if agreed else None
    return Finding("Automatic checks", "agreed, but none had run" if mode == "checks" else "none were agreed")


def _opening(dispute: Dispute) -> Finding:
    count = dispute.deliveries_at_opening
    came = f"after {count} deliver{'y' if count == 1 else 'ies'}" if count else "before anything was delivered"
    when = "before" if dispute.opened_before_deliver_by else "after"
    return Finding(
        "The case was opened",
        f"by the {dispute.opened_by} while the job was {dispute.job_state_at_opening.replace('_', ' ')}, {came},"
        f" {when} the time of delivery was over",
    )


def _silence(
    dispute: Dispute,
    steps: Sequence[Transition],
    case_steps: Sequence[DisputeTransition],
    questions: Sequence[Question],
) -> Finding:
    silent = [LET_RUN[step.action] for step in steps if step.by == "system" and step.action in LET_RUN]
    if dispute.unanswered:
        silent.append(f"the {dispute.respondent_role} did not answer this case")
    if any(step.action == Action.QUESTION_LAPSES for step in case_steps):
        silent += [
            f"the {question.to} did not answer question {question.number}"
            for question in questions
            if question.answered_at is None
        ]
    if silent:
        return Finding("Clocks that ran out", "; ".join(silent), "bad")
    return Finding("Clocks that ran out", "none", "good")


def _settlement(job: Job) -> Finding:
    offered = [
        f"the {side} offers {bps / 100:g} % to the seller"
        for side, bps in (("client", job.client_settlement_bps), ("seller", job.seller_settlement_bps))
        if bps is not None
    ]
    return Finding("Settlement", "; ".join(offered) or "neither side has offered one")


def _chain(items: Sequence[Any]) -> Finding:
    if broken := evidence.broken_links(items):
        return Finding("Chain of evidence", f"broken at item {', '.join(map(str, broken))}", "bad")
    if not items:
        return Finding("Chain of evidence", "no items yet")
    return Finding("Chain of evidence", f"{len(items)} item{'s' * (len(items) > 1)}, unbroken", "good")


def _related(dispute: Dispute) -> Finding:
    shared = parties.ties(dispute)
    if not shared:
        return Finding("Shared by both parties", "no owner, no payout address, no funding address", "good")
    tone = "bad" if any(tie.telling for tie in shared) else "neutral"
    return Finding("Shared by both parties", "; ".join(tie.what for tie in shared), tone)
