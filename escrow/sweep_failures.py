"""Deposit addresses that cannot be emptied: left out for a while, twice as long each time, until it works."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction

from accounts import alerts
from escrow.chain import addresses
from escrow.models import SweepFailure

FIRST, LONGEST = timedelta(minutes=1), timedelta(hours=1)
KIND = "sweep_failing"


@transaction.atomic
def note(address: bytes, *, chain_id: int, why: str, at: datetime) -> SweepFailure:
    """Leave an address out until `retry_at`, and tell the operators."""
    row, is_new = SweepFailure.objects.get_or_create(
        chain_id=chain_id, address=address, defaults={"retry_at": at + FIRST}
    )
    if not is_new:
        row = SweepFailure.objects.select_for_update(no_key=True).get(pk=row.pk)
        row.failures += 1
        row.retry_at = at + min(FIRST * 2 ** min(row.failures - 1, 10), LONGEST)
        row.save(update_fields=["failures", "retry_at"])
    alerts.sound(KIND, addresses.to_text(address), detail=why, at=at)
    return row


@transaction.atomic
def forget(emptied: Iterable[bytes], *, chain_id: int, at: datetime) -> None:
    """It worked."""
    failed = SweepFailure.objects.filter(chain_id=chain_id, address__in=list(emptied))
    for row in failed.select_for_update(no_key=True).order_by("pk"):
        alerts.clear(KIND, addresses.to_text(row.address), at=at)
        row.delete()


def resting(chain_id: int, *, at: datetime) -> list[bytes]:
    """The addresses that are left out now."""
    return [
        bytes(address)
        for address in SweepFailure.objects.filter(chain_id=chain_id, retry_at__gt=at).values_list("address", flat=True)
    ]
