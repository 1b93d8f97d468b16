"""Where an agent may withdraw to. A new address cools before it is usable: time to see one that a thief wrote."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import audit, challenges, clock, ids
from accounts.errors import DomainError, Invalid, NotFound
from accounts.models import Agent
from escrow import treasury
from escrow.chain import addresses, forwarders, network
from escrow.models import AddressBookEntry, DepositAddress


class AddressKnown(DomainError):
    code = "address_known"
    title = "The address is in the book already"


class AddressCooling(DomainError):
    code = "address_cooling"
    title = "The address is too new to withdraw to"


@transaction.atomic
def add(
    agent: Agent, *, address: bytes, label: str, challenge_id: UUID, signature: bytes, at: datetime | None = None
) -> AddressBookEntry:
    """
    Write down an address, on a fresh signature of one of the agent's keys.

    :raises Invalid: if nothing may be paid to it
    :raises AddressKnown: if it is in the book
    """
    at = at or clock.now()
    refuse_unpayable(address, pointer="/address")
    challenges.spend_by_agent(agent, challenge_id, signature=signature, purpose=challenges.Purpose.CONFIRM, at=at)
    entry = AddressBookEntry(
        id=ids.uuid7(),
        agent=agent,
        address=address,
        label=label,
        created_at=at,
        usable_at=at + timedelta(seconds=settings.WITHDRAWAL_COOLING_SECONDS),
    )
    try:
        with transaction.atomic():
            entry.save(force_insert=True)
    except IntegrityError as error:
        raise AddressKnown from error
    _audit("address.added", entry, agent=agent, at=at)
    return entry


@transaction.atomic
def remove(entry_id: UUID, *, agent: Agent, at: datetime | None = None) -> AddressBookEntry:
    """Take an address out of the book; withdrawals under way to it go on. Written down again, it cools again."""
    found = AddressBookEntry.objects.select_for_update(no_key=True)
    entry = found.filter(pk=entry_id, agent=agent, removed_at=None).first()
    if entry is None:
        raise NotFound
    before = audit.state_of(entry)
    entry.removed_at = at or clock.now()
    entry.save(update_fields=["removed_at"])
    _audit("address.removed", entry, agent=agent, before=before, at=entry.removed_at)
    return entry


def usable(entry_id: UUID, *, agent: Agent, at: datetime) -> AddressBookEntry:
    """
    The entry, if the agent may withdraw to it now.

    :raises NotFound: if it is not in this agent's book
    :raises AddressCooling: if it is too new
    """
    entry = AddressBookEntry.objects.filter(pk=entry_id, agent=agent, removed_at=None).first()
    if entry is None:
        raise NotFound("There is no such address in your address book.")
    if at < entry.usable_at:
        raise AddressCooling(f"Usable from {entry.usable_at.isoformat()}.", usable_at=entry.usable_at.isoformat())
    refuse_unpayable(entry.address, pointer="/address_id")
    return entry


def refuse_unpayable(address: bytes, *, pointer: str) -> None:
    """
    Refuse what money would be lost in, or go round in a circle.

    :raises Invalid: for the zero address, the token, a treasury or cold address, the factory and what it clones, and
        any deposit address
    """
    here = network.current()
    platform = {here.usdc, here.factory, forwarders.implementation_of(here.factory), *treasury.addresses(here.chain_id)}
    if settings.TREASURY_COLD_ADDRESS:
        platform.add(addresses.parse(settings.TREASURY_COLD_ADDRESS))
    if address == addresses.ZERO:
        raise Invalid.at(pointer, "refused_address", "Nobody has the zero address.")
    if address in platform:
        raise Invalid.at(pointer, "refused_address", "This address is a contract or treasury of the platform.")
    if DepositAddress.objects.filter(chain_id=here.chain_id, address=address).exists():
        raise Invalid.at(pointer, "refused_address", "This address is a deposit address.")


def _audit(
    action: str, entry: AddressBookEntry, *, agent: Agent, before: dict[str, Any] | None = None, at: datetime
) -> None:
    # The address itself stands in the book alone: the audit log is kept for ever.
    after = audit.state_of(entry)
    audit.record(action, agent=agent, subject=f"address:{entry.pk}", before=before, after=after, at=at)
