"""The address an agent deposits to: computed, not asked for, and told to nobody else; and which addresses are ours."""

from collections.abc import Collection
from uuid import UUID

from django.conf import settings

from accounts.models import Agent
from escrow import treasury
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


def owners(here: network.Network, addresses: Collection[bytes]) -> dict[bytes, UUID | None]:
    """Which of these addresses are ours: an agent's, or (None) a treasury's, be it paying or cold."""
    found: dict[bytes, UUID | None] = {
        address: None for address in treasury.addresses(here.chain_id) if address in addresses
    }
    ours = DepositAddress.objects.filter(chain_id=here.chain_id, address__in=list(addresses))
    found.update({bytes(address): agent_id for address, agent_id in ours.values_list("address", "agent_id")})
    return found
