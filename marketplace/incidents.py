"""
Incidents: outages of ours, recorded by themselves or declared by a person, which cost nobody a deadline.

A part that is silent for longer than two minutes makes an incident that began with its last heartbeat. Incidents may
overlap; the time that counts, once, is their standstill (standstills.py).
"""

import time
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from accounts import alerts, audit, clock
from accounts.errors import Conflict, Invalid, NotAllowed, NotFound
from accounts.interests import ConflictOfInterest
from accounts.models import User
from marketplace import heartbeats, notices, stakes, standstills
from marketplace.models import Incident
from marketplace.standstills import Mover, move_due, movers

__all__ = [
    "AlreadyEnded", "ConflictOfInterest", "Mover", "end", "keep", "look", "may_fire", "move_due", "movers", "open_now",
    "seen", "standing_since", "start", "tell",
]  # fmt: skip

DECLARE = "marketplace.declare_incident"
ALERT = "incident_open"
SPENT = "incidents_too_long"
REASON_CHARS = 500
# One bell rings each second: what is left waits for the next.
KEEPING_SECONDS = 1.0

tell = notices.tell
standing_since = standstills.since


class AlreadyEnded(Conflict):
    title = "The incident has ended already"


# --- by people ------------------------------------------------------------------------------------------------------
@transaction.atomic
def start(
    *, reason: str, by: User | None = None, since: datetime | None = None, at: datetime | None = None
) -> Incident:
    """
    Declare an incident: from now on no clock runs and no silence fires, until it ends.

    Without `since` it began when the first of the parts that are quiet now was last seen, else now. It never begins
    before the last standstill ended: that time was given back already. `reason` is shown to agents.

    :raises NotAllowed: if the person may not; :raises ConflictOfInterest: if an open job or case touches an agent of
        theirs, or one they traded with
    :raises Invalid: without a reason, or for a `since` in the future or too long ago
    """
    _wait_for_turn()
    now = at or clock.now()
    _require_power(by)
    _require_reason(reason)
    look(at=now)
    began = _clamped(_began(since, now))
    incident = Incident.objects.create(reason=reason.strip(), started_at=began, declared_by=by)
    standstills.begin(began)
    _sound(now)
    if by is not None:
        audit.record(
            "incident.start", user=by, subject=f"incident:{incident.pk}",
            after=audit.state_of(incident), reason=reason, at=now,
        )  # fmt: skip
    return incident


@transaction.atomic
def end(incident_id: UUID, *, by: User | None = None, reason: str = "", at: datetime | None = None) -> Incident:
    """
    End an incident; with the last one that is open the clocks run again, and what they lost is given back.

    :raises NotFound: if there is none; :raises AlreadyEnded: if somebody was faster
    :raises NotAllowed, ConflictOfInterest: as `start`
    """
    _wait_for_turn()
    now = at or clock.now()
    _require_power(by)
    look(at=now)
    incident = Incident.objects.filter(pk=incident_id).first()
    if incident is None:
        raise NotFound("There is no such incident.")
    if incident.ended_at is not None:
        raise AlreadyEnded
    before = audit.state_of(incident)
    _end(incident, now, by=by, reason=reason)
    if by is not None:
        audit.record(
            "incident.end", user=by, subject=f"incident:{incident.pk}",
            before=before, after=audit.state_of(incident), reason=reason, at=now,
        )  # fmt: skip
    return incident


def open_now() -> list[Incident]:
    """List the incidents that are open, the oldest first."""
    return list(Incident.objects.filter(ended_at=None).select_related("declared_by").order_by("started_at", "pk"))


# --- by themselves --------------------------------------------------------------------------------------------------
def seen(part: str, *, at: datetime | None = None) -> None:
    """
    Write down that a part is at work. One that was away for too long has its incident recorded first, and ended.

    Call it outside of transactions, as often as you like.
    """
    if not heartbeats.beat(part, at=at):
        _come_back(part, seen_at=at, at=at)


def look(*, at: datetime | None = None) -> list[Incident]:
    """
    Record an incident for each part that is silent for too long, from its last heartbeat; answer those that are new.

    Ends those that have lasted as long as any may.
    """
    _watch_chain()
    return _record_silences(at)


def may_fire() -> bool:
    """
    Say whether sweeps may take the steps that silence takes: no incident is open, and no part is away.

    Whoever takes one judges again, under the lock of its row (`stands_since`).
    """
    look()
    return standstills.since() is None


def keep() -> None:
    """Record outages, then for a second tell of them and move what those that are over took; the next call goes on."""
    seen(heartbeats.WORKER)
    look()
    end_at = time.monotonic() + KEEPING_SECONDS
    for go_on in (tell, move_due):
        while go_on() and time.monotonic() < end_at:
            pass


def _record_silences(at: datetime | None) -> list[Incident]:
    if not (heartbeats.silent() or _outlasted(at)):
        return []
    with transaction.atomic():
        _wait_for_turn()
        now = at or clock.now()
        for incident in _outlasted(now):
            _end(incident, now, reason="No incident lasts longer: money never locks.")
        silences = heartbeats.silent(lock=True)
        recorded = set(Incident.objects.filter(ended_at=None).exclude(part="").values_list("part", flat=True))
        return [_record(silence, now) for silence in silences if silence.part not in recorded]


def _record(silence: heartbeats.Silence, now: datetime) -> Incident:
    began = _clamped(silence.since)
    if silence.part == heartbeats.CHAIN and standstills.lasted(within=2 * _longest(), until=now) > _longest():
        # Written down as over, so that it stops nothing: a node that comes and goes would hold money for ever.
        alerts.sound(SPENT, silence.part, detail=f"{_SILENT[silence.part]} {_TOO_LONG}", at=now)
        return Incident.objects.create(
            part=silence.part, reason=_SILENT[silence.part], started_at=began, ended_at=began, end_reason=_TOO_LONG,
            told_at=now,
        )  # fmt: skip
    incident = Incident.objects.create(part=silence.part, reason=_SILENT[silence.part], started_at=began)
    standstills.begin(began)
    _sound(now)
    return incident


@transaction.atomic
def _come_back(part: str, *, seen_at: datetime | None, at: datetime | None) -> None:
    _wait_for_turn()
    now = at or clock.now()
    _record_silences(now)
    heartbeats.come_back(part, at=seen_at or now)
    for incident in Incident.objects.filter(part=part, ended_at=None):
        _end(incident, now, reason="It is at work again.")


_TOO_LONG = "Clocks have stood still for too long of late: money never locks."
_SILENT = {
    heartbeats.BEAT: "What rings for deadlines was away.",
    heartbeats.REDIS: "The queue of tasks was away.",
    heartbeats.WORKER: "Nobody was there to enforce deadlines.",
    heartbeats.CHAIN: "The chain brought no new blocks.",
}


def _watch_chain() -> None:
    """See the chain as of when a new head was read; while it brings none that is fresh its heartbeat grows old."""
    read_at = heartbeats.chain_read_at()
    # what scans still believe may be old enough to have made an incident
    fresh = timedelta(seconds=min(settings.CHAIN_HEAD_MAX_AGE_SECONDS, settings.INCIDENT_AFTER_SECONDS))
    if read_at is None or clock.now() - read_at > fresh:
        return
    if not heartbeats.beat(heartbeats.CHAIN, at=read_at):
        _come_back(heartbeats.CHAIN, seen_at=read_at, at=None)


def _longest() -> timedelta:
    return timedelta(seconds=settings.INCIDENT_HARD_STOP_SECONDS)


def _outlasted(at: datetime | None) -> list[Incident]:
    oldest = (at or clock.now()) - _longest()
    return list(Incident.objects.filter(ended_at=None, started_at__lte=oldest).order_by("started_at", "pk"))


# --- one at a time --------------------------------------------------------------------------------------------------
# An advisory lock rather than a row's: the first incident has no row to lock yet, and a heartbeat that is fresh, which
# writes its own row, must wait for nobody.
_LOCK = 0x1D1E5707


def _wait_for_turn() -> None:
    """Let whoever else begins or ends an incident wait until this transaction is over."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _end(incident: Incident, at: datetime, *, by: User | None = None, reason: str) -> None:
    incident.ended_at, incident.ended_by = max(at, incident.started_at), by
    incident.end_reason = reason.strip()[:REASON_CHARS]
    incident.save(update_fields=["ended_at", "ended_by", "end_reason"])
    if not Incident.objects.filter(ended_at=None).exists():
        standstills.finish(incident.ended_at)
    _sound(at)


def _sound(at: datetime) -> None:
    """One alert as long as any incident is open."""
    if said := "; ".join(f"since {one.started_at:%Y-%m-%d %H:%M} UTC: {one.reason}" for one in open_now()):
        alerts.sound(ALERT, detail=f"Clocks stand still {said}", at=at)
    else:
        alerts.clear(ALERT, at=at)


def _began(since: datetime | None, now: datetime) -> datetime:
    if since is None:
        quiet = heartbeats.silent(seconds=heartbeats.QUIET_SECONDS)
        return min([now, *(silence.since for silence in quiet)])
    if since > now:
        raise Invalid.at("/since", "in_the_future", "An incident does not begin in the future.")
    if since < now - _longest():
        raise Invalid.at("/since", "too_long_ago", "That is longer ago than an incident may last.")
    return since


def _clamped(began: datetime) -> datetime:
    ended = standstills.last_end()
    return max(began, ended) if ended else began


def _require_power(by: User | None) -> None:
    if by is None:  # a command: whoever runs it has the machine
        return
    if not by.has_perm(DECLARE):
        raise NotAllowed("Only operators, treasurers and senior moderators declare incidents and end them.")
    stakes.require_none(by)


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise Invalid.at("/reason", "required", "Say why; agents read it.")
    if len(reason.strip()) > REASON_CHARS:
        raise Invalid.at("/reason", "max_length", f"At most {REASON_CHARS} characters.")
