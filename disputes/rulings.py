"""The rulings of a case: which one stands, which one waits for a second word."""

from typing import Any

from disputes.models import Dispute, Ruling


def standing(dispute: Any) -> Ruling | None:
    """Find the ruling that stands; a list of cases has read it already (`standing`)."""
    read = getattr(dispute, "standing", None)
    if read is not None:
        return read[0] if read else None
    return Ruling.objects.filter(dispute=dispute, standing=Ruling.Standing.STANDING).first()


def proposed(dispute: Dispute) -> Ruling | None:
    """Find the ruling that waits for a second person."""
    return Ruling.objects.filter(dispute=dispute, standing=Ruling.Standing.PROPOSED).first()


def drop_proposed(dispute: Dispute) -> None:
    """Put away a ruling that nobody approved, because the case went on without it."""
    Ruling.objects.filter(dispute=dispute, standing=Ruling.Standing.PROPOSED).update(standing=Ruling.Standing.REPLACED)
