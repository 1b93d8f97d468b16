"""
Everything staff may know of one agent, read in a fixed number of statements, for one page.

Never of its owner more than that there is one, never a secret or a digest of one. Amounts are micro-USDC.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch, Q
from django.http import Http404

from accounts import limits, seams, trust
from accounts.models import Agent, AgentKey, LimitChange, Suspension, Token
from disputes.models import Dispute, Party, Ruling
from disputes.templatetags import console as named
from escrow import wallet
from marketplace.models import Job

SHOWN = 15  # of each list, the newest


class Quarrel(NamedTuple):
    """One case of the agent's, and how it ended for it."""

    dispute: Dispute
    role: str
    outcome: str
    found_fraud: bool
    # A fraud finding that this agent lost: staff decide, nothing follows by itself.
    proposes_suspension: bool


@dataclass(frozen=True)
class AgentFile:
    """`None` stands for what whoever looks may not see."""

    agent: Agent
    level: int
    why_level: str
    bounds: dict[str, Any]
    used: dict[str, Any]
    changes: list[LimitChange]
    record: list[tuple[str, str]]
    suspensions: list[Suspension]
    tokens: list[Token]
    keys: list[tuple[AgentKey, str]] | None
    money: list[tuple[str, int]] | None
    jobs: list[Job] | None
    quarrels: list[Quarrel] | None

    @property
    def is_suspended(self) -> bool:
        return self.agent.status == Agent.Status.SUSPENDED

    @property
    def proposals(self) -> list[Quarrel]:
        """The cases in which a ruling found fraud and went against this agent."""
        return [quarrel for quarrel in self.quarrels or () if quarrel.proposes_suspension]


def read(agent_id: UUID, *, user: Any) -> AgentFile:
    """
    Read what this person may see of an agent.

    :raises Http404: if there is none
    """
    agent = find(agent_id)
    changes = list(LimitChange.objects.filter(agent=agent).select_related("by").order_by("-at", "-pk")[:SHOWN])
    bounds = limits.of(agent)
    return AgentFile(
        agent=agent,
        level=bounds["trust_level"],
        why_level=_why_level(agent, changes),
        bounds=bounds["limits"],
        used=bounds["used"],
        changes=changes,
        record=_record(agent.pk),
        suspensions=list(
            Suspension.objects.filter(agent=agent)
            .select_related("suspended_by", "lifted_by")
            .order_by("-suspended_at", "-pk")[:SHOWN]
        ),
        tokens=list(Token.objects.filter(agent=agent).defer("digest").order_by("-created_at", "-pk")[:SHOWN]),
        keys=_keys(agent) if user.has_perm("accounts.view_agentkey") else None,
        money=_money(agent.pk) if user.has_perm("escrow.view_ledgeraccount") else None,
        jobs=_jobs(agent) if user.has_perm("marketplace.view_job") else None,
        quarrels=_quarrels(agent) if user.has_perm("disputes.view_dispute") else None,
    )


def find(agent_id: UUID) -> Agent:
    """
    Read an agent alone.

    :raises Http404: if there is none
    """
    agent = Agent.objects.filter(pk=agent_id).first()
    if agent is None:
        raise Http404("There is no such agent.")
    return agent


def _why_level(agent: Agent, changes: list[LimitChange]) -> str:
    if agent.level_by_staff is not None and changes:
        return f"set by {changes[0].by.username}: {changes[0].reason}"
    if settings.OPEN_TRUST_LEVEL is not None and trust.level_of(agent) == settings.OPEN_TRUST_LEVEL:
        return "what this installation gives every agent (OPEN_TRUST_LEVEL)"
    return "registered, and nothing attested"


def _record(agent_id: UUID) -> list[tuple[str, str]]:
    """What the agent's public profile says of its work and its quarrels."""
    parts: dict[str, Any] = {}
    for part in seams.profile_parts:
        parts |= part(agent_id)
    return [
        (named.words(name.removesuffix("_seconds")).capitalize(), _figure(name, value)) for name, value in parts.items()
    ]


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "–"
    return named.duration(int(value)) if name.endswith("_seconds") else str(value)


def _keys(agent: Agent) -> list[tuple[AgentKey, str]]:
    """Public keys by their SHA-256, as people compare them."""
    rows = AgentKey.objects.filter(agent=agent).order_by("-created_at", "-pk")[:SHOWN]
    return [(key, hashlib.sha256(bytes(key.public_key)).hexdigest()) for key in rows]


def _money(agent_id: UUID) -> list[tuple[str, int]]:
    own = wallet.of(agent_id)
    return [
        ("Available", own.available_units),
        ("Held for jobs it pays", own.held_units),
        ("Bonds on jobs it does", own.bonded_units),
        ("Being withdrawn", own.withdrawing_units),
        ("Stake", own.staked_units),
        ("Deposits on their way", own.pending_deposits_units),
    ]


def _jobs(agent: Agent) -> list[Job]:
    rows = Job.objects.filter(Q(client=agent) | Q(seller=agent)).select_related("client", "seller")
    return list(rows.order_by("-pk")[:SHOWN])


def _quarrels(agent: Agent) -> list[Quarrel]:
    """The newest cases, and every one in which a ruling found fraud."""
    standing = Ruling.objects.filter(standing=Ruling.Standing.STANDING)
    theirs = (
        Dispute.objects.filter(Q(client=agent) | Q(seller=agent))
        .select_related("client", "seller")
        .defer("statement_of_client", "statement_of_seller")
        .prefetch_related(Prefetch("rulings", queryset=standing, to_attr="standing"))
        .order_by("-pk")
    )
    newest = list(theirs[:SHOWN])
    fraud = theirs.filter(rulings__standing=Ruling.Standing.STANDING, rulings__reason_codes__contains=["fraud"])
    older = [dispute for dispute in fraud[:SHOWN] if dispute not in newest]
    return [_quarrel(dispute, agent) for dispute in newest + older]


def _quarrel(dispute: Any, agent: Agent) -> Quarrel:
    role = Party.CLIENT if dispute.client_id == agent.pk else Party.SELLER
    ruling = dispute.standing[0] if dispute.standing else None
    found_fraud = ruling is not None and "fraud" in ruling.reason_codes
    return Quarrel(
        dispute=dispute,
        role=str(role),
        outcome=_outcome(dispute, ruling, role),
        found_fraud=found_fraud,
        proposes_suspension=found_fraud and dispute.lost_by == role,
    )


def _outcome(dispute: Dispute, ruling: Ruling | None, role: str) -> str:
    if ruling is None:
        return "no ruling" if dispute.closed_at else "no ruling yet"
    went = "redo" if ruling.redo else f"{named.percent(ruling.seller_bps)} to the seller"
    if ruling.is_default:
        went += ", by default"
    if dispute.closed_at is None:
        return f"{went}, not final yet"
    return went if dispute.lost_by is None else f"{went}, {'lost' if dispute.lost_by == role else 'won'}"
