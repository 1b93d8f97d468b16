"""Whose USDC pays: the treasuries of a chain, the newest of which signs, and the cold ones, which never do."""

from django.db import transaction

from accounts.errors import Conflict, TryLater
from escrow.models import Relayer, Treasury


class NoTreasury(TryLater):
    title = "No treasury is set up for this chain"


def current(chain_id: int) -> Treasury:
    """
    The treasury that signs.

    :raises NoTreasury: if none was ever recorded
    """
    found = Treasury.objects.filter(chain_id=chain_id, cold=False).order_by("-id").first()
    if found is None:
        raise NoTreasury
    return found


def addresses(chain_id: int) -> set[bytes]:
    """Every treasury there ever was: all of them are watched."""
    return {bytes(address) for address in Treasury.objects.filter(chain_id=chain_id).values_list("address", flat=True)}


@transaction.atomic
def register(address: bytes, *, chain_id: int, cold: bool = False) -> Treasury:
    """
    Record a treasury; unless it is cold, it signs from now on. Known already, nothing changes.

    :raises Conflict: if it is known as the other sort
    """
    from escrow import guard  # which asks for the treasuries

    found, is_new = Treasury.objects.get_or_create(chain_id=chain_id, address=address, defaults={"cold": cold})
    if found.cold != cold:
        raise Conflict("A treasury stays what it was recorded as: cold, or one that signs.")
    if is_new:
        guard.forget_checked(chain_id)
    return found


def register_earlier(address: bytes, *, chain_id: int) -> Treasury:
    """
    Record a treasury that signed before; it is watched, and pays what it still owes. Known already, nothing changes.

    :raises Conflict: if a later one is recorded: this one would come after it, and sign
    """
    known = Treasury.objects.filter(chain_id=chain_id, cold=False)
    if not known.filter(address=address).exists() and known.exists():
        raise Conflict("The treasuries are recorded in the order in which they signed; a later one is recorded.")
    return register(address, chain_id=chain_id)


def register_relayer(address: bytes, *, chain_id: int, next_nonce: int) -> Relayer:
    """Record a relayer, whose next transaction takes `next_nonce`. Known already, nothing changes."""
    return Relayer.objects.get_or_create(chain_id=chain_id, address=address, defaults={"next_nonce": next_nonce})[0]
