"""What both parties have behind them, and what ties them to each other. Two columns beside the case, never deciding."""

from typing import Any, NamedTuple

from django.db import connection
from django.db.models import OuterRef, Q, Subquery

from accounts.models import Agent
from disputes import records as case_records
from disputes.models import Dispute, Party, Ruling
from marketplace import records as job_records

SHOWN_EARLIER = 5
# An address that funds more agents than this is an exchange's: sharing it says nothing.
EXCHANGE_FUNDS_AGENTS = 5


class Earlier(NamedTuple):
    """One earlier dispute of a side, and how it ended for it."""

    dispute: Dispute
    outcome: str
    tone: str


class Side(NamedTuple):
    """The record of one party: counts over all its jobs and disputes, this case left out."""

    role: str
    agent: Agent
    completed: int
    disputes: int
    opened: int
    lost: int
    settled: int
    silent_approvals: int
    median_review_seconds: int | None
    earlier: list[Earlier]


def of_case(dispute: Dispute) -> list[Side]:
    """Gather the records of client and seller, in four statements."""
    parties = [(Party.CLIENT, dispute.client), (Party.SELLER, dispute.seller)]
    jobs = job_records.of_many(agent.pk for _, agent in parties)
    quarrels = case_records.of_many(agent.pk for _, agent in parties)
    return [
        Side(
            role=role,
            agent=agent,
            completed=jobs[agent.pk]["completed"],
            silent_approvals=jobs[agent.pk]["silent_approvals"],
            median_review_seconds=jobs[agent.pk]["median_review_seconds"],
            disputes=quarrels[agent.pk]["disputes"] - 1,
            opened=quarrels[agent.pk]["disputes_opened"] - (dispute.opener_id == agent.pk),
            lost=quarrels[agent.pk]["disputes_lost"] - (dispute.lost_by == role),
            settled=quarrels[agent.pk]["disputes_settled"] - (dispute.state == Dispute.State.SETTLED),
            earlier=_earlier(dispute, agent),
        )
        for role, agent in parties
    ]


def _earlier(dispute: Dispute, agent: Agent) -> list[Earlier]:
    standing = Ruling.objects.filter(dispute=OuterRef("pk"), standing=Ruling.Standing.STANDING)
    rows = (
        Dispute.objects.filter(Q(client=agent) | Q(seller=agent))
        .exclude(pk=dispute.pk)
        .order_by("-pk")
        .defer("statement_of_client", "statement_of_seller")
        .annotate(
            bps=Subquery(standing.values("seller_bps")[:1]),
            is_redo=Subquery(standing.values("redo")[:1]),
            by_default=Subquery(standing.values("is_default")[:1]),
        )
    )
    return [_ended(row, agent) for row in rows[:SHOWN_EARLIER]]


def _ended(row: Any, agent: Agent) -> Earlier:
    mine = Party.CLIENT if row.client_id == agent.pk else Party.SELLER
    as_whom = f"as {mine}, opened by {'it' if row.opener_id == agent.pk else 'the other side'}"
    if row.closed_at is None:
        return Earlier(row, f"open ({row.get_state_display().lower()}), {as_whom}", "neutral")
    if row.state != Dispute.State.FINAL or row.bps is None:
        how = "the work was done again" if row.is_redo else row.get_state_display().lower()
        return Earlier(row, f"{how}, {as_whom}", "neutral")
    how = f"{row.bps / 100:g} % to the seller{' by default' if row.by_default else ''}"
    verdict = "" if row.lost_by is None else "lost: " if row.lost_by == mine else "won: "
    return Earlier(row, f"{verdict}{how}, {as_whom}", "bad" if verdict == "lost: " else "neutral")


# --- what ties them together ----------------------------------------------------------------------------------------
class Tie(NamedTuple):
    """Something that both parties share."""

    what: str
    telling: bool


def ties(dispute: Dispute) -> list[Tie]:
    """List what client and seller share: the owner, and addresses that pay or are paid for both. One statement."""
    found = []
    if dispute.client.owner_id and dispute.client.owner_id == dispute.seller.owner_id:
        found.append(Tie("the same owner", True))
    with connection.cursor() as cursor:
        parties = [dispute.client_id, dispute.seller_id]
        cursor.execute(_SHARED, {"parties": parties, "client": parties[0], "seller": parties[1]})
        for of_client, of_seller, funds in cursor.fetchall():
            if of_client == of_seller == "funding" and funds > EXCHANGE_FUNDS_AGENTS:
                found.append(Tie(f"an address that funds both, and {funds - 2} agents more: an exchange's", False))
            elif of_client == of_seller:
                found.append(Tie(f"the same {of_client} address", True))
            else:
                found.append(Tie(f"the client's {of_client} address is the seller's {of_seller} address", True))
    return list(dict.fromkeys(found))


_SHARED = """
    WITH known AS (
        SELECT agent_id, address, 'payout' AS used FROM escrow_addressbookentry WHERE agent_id = ANY(%(parties)s)
        UNION
        SELECT agent_id, sender, 'funding' FROM escrow_deposit WHERE agent_id = ANY(%(parties)s)
    )
    SELECT c.used, s.used,
           CASE WHEN c.used = 'funding' AND s.used = 'funding'
                THEN (SELECT count(DISTINCT agent_id) FROM escrow_deposit WHERE sender = c.address) ELSE 0 END
    FROM known c JOIN known s USING (address)
    WHERE c.agent_id = %(client)s AND s.agent_id = %(seller)s
    ORDER BY 1, 2 LIMIT 20
"""
