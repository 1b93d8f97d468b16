"""Whose USDC pays: the treasuries of a chain, the newest of which signs."""

from accounts.errors import TryLater
from escrow.models import Relayer, Treasury


class NoTreasury(TryLater):
    title = "No treasury is set up for this chain"


def current(chain_id: int) -> Treasury:
    """
    The treasury that signs.

    :raises NoTreasury: if none was ever recorded
    """
    found = Treasury.objects.filter(chain_id=chain_id).order_by("-id").first()
    if found is None:
        raise NoTreasury
    return found


def addresses(chain_id: int) -> set[bytes]:
    """Every treasury there ever was: all of them are watched."""
    return {bytes(address) for address in Treasury.objects.filter(chain_id=chain_id).values_list("address", flat=True)}


def register(address: bytes, *, chain_id: int) -> Treasury:
    """Record a treasury; from now on it signs. Known already, nothing changes."""
    return Treasury.objects.get_or_create(chain_id=chain_id, address=address)[0]


def register_relayer(address: bytes, *, chain_id: int, next_nonce: int) -> Relayer:
    """Record a relayer, whose next transaction takes `next_nonce`. Known already, nothing changes."""
    return Relayer.objects.get_or_create(chain_id=chain_id, address=address, defaults={"next_nonce": next_nonce})[0]
