"""Whose USDC pays: the treasuries of a chain, the newest of which signs, and the cold ones, which never do."""

from datetime import datetime

from django.db import transaction

from accounts import clock
from accounts.errors import Conflict, NotFound, TryLater
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


@transaction.atomic
def register_in_order(signing: list[bytes], *, chain_id: int) -> None:
    """
    Record the treasuries that sign one after the other, the last of them from now on. A second time nothing changes.

    :raises Conflict: if an earlier one is recorded too late, or the last one was followed by another already
    """
    known = set(Treasury.objects.filter(chain_id=chain_id, cold=False).values_list("address", flat=True))
    missing = [address for address in signing if address not in known]
    if missing and signing[-len(missing) :] != missing:
        raise Conflict("An earlier treasury that is recorded now would come after the later one, and sign.")
    for address in missing:
        register(address, chain_id=chain_id)
    if current(chain_id).address != signing[-1]:
        raise Conflict("This treasury was followed by another one: a treasury does not come back.")


def register_relayer(address: bytes, *, chain_id: int, next_nonce: int) -> Relayer:
    """Record a relayer, whose next transaction takes `next_nonce`. Known already, nothing changes."""
    return Relayer.objects.get_or_create(chain_id=chain_id, address=address, defaults={"next_nonce": next_nonce})[0]


@transaction.atomic
def retire_relayer(address: bytes, *, chain_id: int, at: datetime | None = None) -> Relayer:
    """
    Give a relayer no new nonce from now on; what it has is brought to an end. Retired already, nothing changes.

    :raises NotFound: if it is none of ours
    """
    relayer = Relayer.objects.select_for_update(no_key=True).filter(chain_id=chain_id, address=address).first()
    if relayer is None:
        raise NotFound
    if relayer.retired_at is None:
        relayer.retired_at = at or clock.now()
        relayer.save(update_fields=["retired_at"])
    return relayer
