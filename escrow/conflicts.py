"""Nobody decides about money that may be theirs: which agents a payout concerns, and who has a stake in one."""

from collections.abc import Iterable

from accounts import interests
from accounts.errors import NotAllowed
from accounts.models import Agent, User
from escrow.models import AddressBookEntry, Withdrawal


class OwnWithdrawal(NotAllowed):
    title = "Nobody approves a payout of an agent they own, or one they asked for"


def require_none(by: User, agents: Iterable[Agent]) -> None:
    """
    Refuse a treasurer who has a stake in one of the agents.

    :raises OwnWithdrawal: if they own it; :raises interests.ConflictOfInterest: if an agent of theirs traded with it
    """
    concerned = list(agents)
    if any(agent.owner_id == by.pk for agent in concerned):
        raise OwnWithdrawal
    interests.require_none(by, concerned)


def agents_of(withdrawal: Withdrawal) -> list[Agent]:
    """Whose payout it is; one of the platform may be paid to an address of an agent."""
    return [withdrawal.agent] if withdrawal.agent else paid_at(withdrawal.address)


def paid_at(address: bytes) -> list[Agent]:
    """Find the agents that have, or had, an address in their address book."""
    entries = AddressBookEntry.objects.filter(address=address)
    return list(Agent.objects.filter(pk__in=entries.values("agent")).order_by("pk"))
