"""The treasury process as tests run it: a round at a time."""

import secrets
from datetime import timedelta
from typing import Any

from accounts import clock, ids
from escrow import payouts, relays
from escrow.models import AddressBookEntry
from escrow.tests.chain import LocalChain


def treasury_tick() -> None:
    """One round of the treasury process."""
    payouts.authorize_due()
    payouts.relay_due()
    relays.push_due()
    payouts.settle_due()


def run(chain: LocalChain, rounds: int = 3) -> None:
    """Rounds of the treasury process with enough blocks between them that everything becomes final."""
    for _ in range(rounds):
        treasury_tick()
        chain.finalize()
    treasury_tick()


def entry_for(agent: Any, address: bytes | None = None) -> AddressBookEntry:
    """A usable entry of an agent's address book."""
    long_ago = clock.now() - timedelta(days=2)
    return AddressBookEntry.objects.create(
        id=ids.uuid7(),
        agent=agent,
        address=address or secrets.token_bytes(20),
        created_at=long_ago,
        usable_at=long_ago + timedelta(days=1),
    )
