"""
Standstills: the times in which the clocks of jobs and cases stood still, and what moves the clocks afterwards.

While one is open every clock is judged at the moment it began, and no silence fires. One that is over [S, E] moves a
clock that was not over at S by E − S, or, if the clock was started meanwhile, by what was left of the outage then. Each
row with clocks knows the number of the last standstill that moved it: it is moved once, whoever comes first, the
batches below or whoever locks the row.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import DateTimeField, Max, Q, QuerySet
from django.db.models.expressions import RawSQL

from accounts import clock
from marketplace.models import Incident, Standstill


class Shift(NamedTuple):
    """A standstill that is over."""

    number: int
    started_at: datetime
    ended_at: datetime


class Mover(Protocol):
    """One kind of rows with clocks. The apps above add theirs to `movers`."""

    def move(self, shift: Shift, *, limit: int) -> int:
        """Move some rows that this standstill has not moved, skipping those somebody is at work on; say how many."""

    def is_done(self, shift: Shift) -> bool:
        """Say whether it has moved every row."""


movers: list[Mover] = []


# --- standing still -------------------------------------------------------------------------------------------------
def since() -> datetime | None:
    """Say since when the clocks stand still, None while they run."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT stands_since FROM marketplace_clocks(0, %s)", [after_seconds()])
        return cursor.fetchone()[0]


def since_in_sql() -> dict[str, RawSQL]:
    """Annotate rows that are read without a lock with `stands_since`; asked once, however many they are."""
    asked = RawSQL("(SELECT stands_since FROM marketplace_clocks(0, %s))", [after_seconds()], DateTimeField(null=True))
    return {"stands_since": asked}


def after_seconds() -> int:
    """Say after how long a silence stops the clocks."""
    return int(settings.INCIDENT_AFTER_SECONDS)


def last_end() -> datetime | None:
    """Say when the last standstill ended: none that is recorded later begins before."""
    return Standstill.objects.aggregate(last=Max("ended_at"))["last"]


def lasted(*, within: timedelta, until: datetime) -> timedelta:
    """Say for how long clocks stood still in a time that ends now."""
    begin_at = until - within
    recent = Standstill.objects.filter(Q(ended_at=None) | Q(ended_at__gt=begin_at))
    spans = [(max(one.started_at, begin_at), min(one.ended_at or until, until)) for one in recent]
    return sum((max(timedelta(0), end - start) for start, end in spans), timedelta(0))


def begin(at: datetime) -> None:
    """Let the clocks stand still from a moment on; if they do already, at least from that moment on."""
    standing = Standstill.objects.filter(ended_at=None).first()
    if standing is None:
        number = Standstill.objects.aggregate(last=Max("number"))["last"] or 0
        Standstill.objects.create(number=number + 1, started_at=at)
    elif at < standing.started_at:
        standing.started_at = at
        standing.save(update_fields=["started_at"])


def finish(at: datetime) -> None:
    """Let the clocks run again; a standstill that would have taken no time never was."""
    standing = Standstill.objects.get(ended_at=None)
    if at <= standing.started_at:
        standing.delete()
    else:
        standing.ended_at = at
        standing.save(update_fields=["ended_at"])


# --- moving ---------------------------------------------------------------------------------------------------------
def after(number: int) -> list[Shift]:
    """List the standstills that are over and later than a number, in order."""
    return _shifts(Standstill.objects.filter(number__gt=number))


def move_due(limit: int = 500) -> int:
    """
    Move rows by the first standstill that has not moved them all, in one transaction; answer how many.

    0: nothing is left, or somebody is at work on all that is. Killed in the middle, the next call goes on.
    """
    for shift in _shifts(Standstill.objects.filter(moved_at=None)):
        moved = _move(shift, limit)
        if moved or not all(mover.is_done(shift) for mover in movers):
            return moved
        Standstill.objects.filter(pk=shift.number, moved_at=None).update(moved_at=clock.now())
    return 0


def _shifts(among: QuerySet[Standstill]) -> list[Shift]:
    over = among.filter(ended_at__isnull=False).order_by("number")
    return [Shift(one.number, one.started_at, one.ended_at) for one in over if one.ended_at]


@transaction.atomic
def _move(shift: Shift, limit: int) -> int:
    for mover in movers:
        if moved := mover.move(shift, limit=limit):
            return moved
    return 0


def incident_ids(shift: Shift) -> list[UUID]:
    """List the incidents that made a standstill."""
    overlapping = Incident.objects.filter(started_at__lt=shift.ended_at)
    overlapping = overlapping.filter(Q(ended_at=None) | Q(ended_at__gt=shift.started_at))
    return list(overlapping.order_by("started_at", "pk").values_list("pk", flat=True))


def moved(column: str, *, start: str) -> str:
    """
    Write in SQL what a standstill makes of a clock: `column` when it ends, `start` when it was started.

    The parameters are %(start)s and %(end)s. A row that was written while the end was being committed may have been
    started after it: it is not moved back.
    """
    return (
        f"CASE WHEN {column} > %(start)s THEN {column}"
        f" + greatest(interval '0', %(end)s - greatest(%(start)s, {start})) ELSE {column} END"
    )


def parameters(shift: Shift) -> dict[str, Any]:
    return {"number": shift.number, "start": shift.started_at, "end": shift.ended_at}


def told(shift: Shift, *, incidents: Iterable[UUID], moved_seconds: float) -> dict[str, object]:
    """Say to a party what moved its deadline and by how much."""
    return {
        "standstill": shift.number,
        "incident_ids": [str(incident) for incident in incidents],
        "moved_seconds": round(moved_seconds, 6),
    }
