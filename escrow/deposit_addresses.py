"""The address an agent deposits to: computed, not asked for, and told to nobody else."""

from django.conf import settings

from accounts.models import Agent
from escrow.chain import forwarders, network
from escrow.models import DepositAddress


def of(agent: Agent) -> DepositAddress:
    """The agent's deposit address on this chain; the first time it is asked for, it is written down and watched."""
    here = network.current()
    known = DepositAddress.objects.filter(agent=agent, chain_id=here.chain_id, factory=here.factory).first()
    if known:
        return known
    salt = forwarders.salt_of(agent.id, secret=settings.DEPOSIT_SALT_SECRET.encode())
    made, _ = DepositAddress.objects.get_or_create(
        agent=agent,
        chain_id=here.chain_id,
        factory=here.factory,
        defaults={"salt": salt, "address": forwarders.address_of(salt, factory=here.factory)},
    )
    return made
