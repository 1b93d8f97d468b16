"""
Pausing: new business stops, exits never do. A switch is a row, and each of its changes is another one for ever.

What happens by itself only ever pauses; people resume.
"""

from datetime import datetime

from django.db import transaction

from accounts import audit, clock
from accounts.errors import Conflict, Invalid, NotAllowed, Paused
from accounts.models import Pause, PauseChange, User

Flag = Pause.Flag


class AlreadySet(Conflict):
    title = "The switch stands there already"


class RevisionChanged(Conflict):
    code = "revision_changed"
    title = "The switch was changed meanwhile"


class StillUnsafe(Conflict):
    """What paused it goes on: the reason is told."""

    title = "What it was paused for is not over"


def is_paused(flag: str) -> bool:
    """Tell whether new business of this kind is stopped."""
    return Pause.objects.filter(flag=flag, paused=True).exists()


def require_open(flag: str) -> None:
    """
    Refuse new business while its switch is off.

    :raises Paused: with the reason that a person gave
    """
    pause = Pause.objects.filter(flag=flag, paused=True).first()
    if pause is not None:
        # What an alarm wrote is for operators: it names amounts, addresses and transactions.
        raise Paused("Paused until somebody has looked." if pause.cause else pause.reason, flag=flag)


def require_revision(flag: str, revision: int) -> None:
    """
    Refuse a change of a switch that is not as the person saw it; it stays as it is until the transaction ends.

    :raises RevisionChanged: if somebody, or an alert, was first
    """
    row = Pause.objects.select_for_update(no_key=True).filter(pk=flag).first()
    found = row.revision if row else 0
    if found != revision:
        raise RevisionChanged("Somebody, or an alert, changed the switch meanwhile: look again.", revision=found)


@transaction.atomic
def pause(flag: str, *, reason: str, by: User | None = None, cause: str = "", at: datetime | None = None) -> Pause:
    """
    Stop new business of this kind, by a person or, for a `cause`, by itself.

    :raises NotAllowed: if the person may not
    :raises AlreadySet: if it is paused; a second cause does not replace the first
    """
    return _change(flag, paused=True, by=by, cause=cause, reason=reason, at=at)


@transaction.atomic
def resume(flag: str, *, by: User, reason: str, at: datetime | None = None) -> Pause:
    """
    Let it go on; only a person can.

    :raises NotAllowed: if the person may not
    :raises AlreadySet: if it is not paused
    """
    return _change(flag, paused=False, by=by, cause="", reason=reason, at=at)


def _change(flag: str, *, paused: bool, by: User | None, cause: str, reason: str, at: datetime | None) -> Pause:
    if flag not in Flag.values:
        raise Invalid.at("/flag", "invalid", "There is no such switch.")
    if by is not None and not by.has_perm("accounts.set_pause"):
        raise NotAllowed("Only treasurers pause and resume.")
    if not reason.strip():
        raise Invalid.at("/reason", "required", "Say why.")
    Pause.objects.get_or_create(flag=flag, defaults={"changed_at": at or clock.now()})
    row = Pause.objects.select_for_update(no_key=True).get(pk=flag)
    if row.paused == paused:
        raise AlreadySet(f"{flag} is {'paused' if paused else 'open'} already.", revision=row.revision)
    before = audit.state_of(row)
    row.paused, row.by, row.cause, row.reason = paused, by, cause, reason[:500]
    row.revision += 1
    row.changed_at = at or clock.now()
    row.save()
    PauseChange.objects.create(
        flag=flag, paused=paused, cause=cause, reason=row.reason, by=by, revision=row.revision, at=row.changed_at
    )
    if by is not None:
        audit.record(
            "pause.set" if paused else "pause.lifted", user=by, subject=f"pause:{flag}",
            before=before, after=audit.state_of(row), reason=reason, at=row.changed_at,
        )  # fmt: skip
    return row
