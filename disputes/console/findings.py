"""What the system itself knows about a case. Shown beside the form, never deciding alone."""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Q

from accounts.models import Agent
from disputes import evidence
from disputes.models import Dispute
from escrow.models import AddressBookEntry
from marketplace import terms
from marketplace.models import Delivery, Job, Offer, Transition


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
    items: Sequence[Any],
) -> list[Finding]:
    """
    List the facts: three statements for what the parties have behind them, the rest from rows that are read already.

    Deliveries and items of evidence carry the SHA-256 that the database reckoned from their bytes as `digest`.
    """
    return [
        _terms(job, agreed),
        _in_time(job, deliveries),
        _digests(deliveries),
        Finding("Automatic checks", "none were agreed"),
        Finding("Revisions used", f"{job.revisions_used} of {job.max_revisions}"),
        _silence(dispute, steps),
        _chain(items),
        *(_record(dispute, side, agent) for side, agent in (("client", dispute.client), ("seller", dispute.seller))),
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
    if job.deliver_by is None or first < job.deliver_by:
        spare = job.deliver_by - first if job.deliver_by else None
        return Finding(
            "Delivered in time", f"yes, with {str(spare).split('.')[0]} to spare" if spare else "yes", "good"
        )
    return Finding("Delivered in time", "no", "bad")


def _span(span: timedelta) -> str:
    return str(timedelta(seconds=int(span.total_seconds())))


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


def _silence(dispute: Dispute, steps: Sequence[Transition]) -> Finding:
    silent = [
        f"{step.action.replace('_', ' ')} ({step.from_state.replace('_', ' ')})"
        for step in steps
        if step.by == "system"
    ]
    if dispute.unanswered:
        silent.append(f"the {dispute.respondent_role} did not answer this case")
    if silent:
        return Finding("Clocks that ran out", "; ".join(silent), "bad")
    return Finding("Clocks that ran out", "none", "good")


def _chain(items: Sequence[Any]) -> Finding:
    before, broken = evidence.START_OF_CHAIN, []
    for item in items:
        changed = item.digest is not None and bytes(item.digest) != bytes(item.sha256)
        if changed or evidence.chained(before, item) != bytes(item.chain_hash):
            broken.append(str(item.number))
        before = bytes(item.chain_hash)
    if broken:
        return Finding("Chain of evidence", f"broken at item {', '.join(broken)}", "bad")
    if not items:
        return Finding("Chain of evidence", "no items yet")
    return Finding("Chain of evidence", f"{len(items)} item{'s' * (len(items) > 1)}, unbroken", "good")


def _record(dispute: Dispute, side: str, agent: Agent) -> Finding:
    theirs = Q(client=agent) | Q(seller=agent)
    lost = Q(client=agent, lost_by="client") | Q(seller=agent, lost_by="seller")
    record = (
        Dispute.objects.filter(theirs)
        .exclude(pk=dispute.pk)
        .aggregate(
            all=Count("pk"),
            opened=Count("pk", filter=Q(opener=agent)),
            lost=Count("pk", filter=lost),
            live=Count("pk", filter=Q(closed_at=None)),
        )
    )
    if not record["all"]:
        return Finding(f"Earlier disputes of the {side}", "none")
    return Finding(
        f"Earlier disputes of the {side}",
        f"{record['all']} ({record['opened']} opened by it, {record['lost']} lost, {record['live']} still open)",
        "bad" if record["lost"] else "neutral",
    )


def _related(dispute: Dispute) -> Finding:
    shared = []
    if dispute.client.owner_id and dispute.client.owner_id == dispute.seller.owner_id:
        shared.append("owner")
    theirs = AddressBookEntry.objects.filter(agent_id=dispute.client_id).values("address")
    if AddressBookEntry.objects.filter(agent_id=dispute.seller_id, address__in=theirs).exists():
        shared.append("payout address")
    if shared:
        return Finding("Shared by both parties", ", ".join(shared), "bad")
    return Finding("Shared by both parties", "no owner, no payout address", "good")
