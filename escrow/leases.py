"""Claims on due rows: one process works on a row at a time, and a dead one's claim runs out."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet

from accounts import clock

SECONDS = 30


@transaction.atomic
def claim(due: QuerySet[Any], *, limit: int = 50, seconds: int = SECONDS) -> list[UUID]:
    """
    Claim up to `limit` of these rows that nobody has claimed, oldest first.

    What kept an earlier claim to its end comes after the rest: what cannot go may not take everyone's turn.
    """
    at = clock.now()
    free = due.filter(Q(lease_until=None) | Q(lease_until__lt=at))
    claimed = list(
        free.select_for_update(skip_locked=True, no_key=True)
        .order_by(F("lease_until").asc(nulls_first=True), "pk")
        .values_list("pk", flat=True)[:limit]
    )
    due.model.objects.filter(pk__in=claimed).update(lease_until=at + timedelta(seconds=seconds))
    return claimed


def release(model: Any, row_id: UUID) -> None:
    """Give a claim back: the row is due again at once."""
    model.objects.filter(pk=row_id).update(lease_until=None)
