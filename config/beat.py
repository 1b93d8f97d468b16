"""
The beat: the one process that rings the alarm clocks of config/celery.py.

Any number of beats may run. The one that holds a lock of PostgreSQL leads, and rings; the others ask for the lock each
second. The lock lives as long as the leader's own connection, so a leader that was killed, or cannot reach the
database, has lost it. Bells that a beat could not ring are not made up for: each task rings once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import redis
from celery.schedules import schedstate
from django.conf import settings
from django.db import Error, close_old_connections, connection
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.celery import SCHEDULE

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
# Edits by SQL, which say nothing to anybody, are seen after so long; those in the console at once.
REREAD_SECONDS = 5
# What rings more often may ring once more after a crash; of what rings more seldom each ring is written down at once.
SELDOM_SECONDS = 10
# Bells that wait unheard in a queue: more of them would say nothing more, and fill Redis while no worker is there.
MOST_WAITING = 200
OFTEN_SECONDS = 60
PULSE_SECONDS = 2
TICKING_SECONDS = 15  # a beat that has not ticked for so long is not at work, though its process lives
_TAKE = "SELECT pg_try_advisory_lock(hashtext('beat'))"
# A leader whose network is cut off notices, and the database too, long before a standstill.
_DEAD_PEER = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 8_000}
_DEAD_LEADER = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}


class Bell(ModelEntry):
    """A periodic task as the beat rings it: by its name, without arguments."""

    def __init__(self, model: Any, app: Any = None) -> None:
        super().__init__(model, app=app)
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        # A moment of expiry would be judged by the worker's clock: one that is wrong would hear no bell at all.
        self.options.pop("expires", None)

    def is_due(self) -> schedstate:
        """Tell whether to ring; a last ring in the future, by a host whose clock was wrong, silences nothing."""
        if self.last_run_at > self._default_now() + timedelta(seconds=1):
            return schedstate(True, self.seconds)
        return super().is_due()

    @property
    def seconds(self) -> float:
        return float(self.schedule.run_every.total_seconds())


class Beat(DatabaseScheduler):
    """Rings what is due, as long as it leads."""

    Entry = Bell
    sync_every = 1  # seconds

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lead = Lead()
        self.ticked_at = 0.0
        self._pulse: threading.Thread | None = None
        self._unheard: set[str] = set()
        self._wall = _wall()
        self._read_at = 0.0
        super().__init__(*args, **options)

    def setup_schedule(self) -> None:
        """Read nothing yet: the database may be away, and who does not lead needs no schedule."""

    def tick(self, *args: Any, **options: Any) -> float:
        """Ring one task that is due, if this beat leads; answers how many seconds to sleep."""
        if self._pulse is None:
            self._pulse = threading.Thread(target=pulse, args=[self], name="pulse", daemon=True)
            self._pulse.start()
        try:
            if not self.lead.is_held():
                self._forget()
                return ASK_SECONDS
            if abs(_wall() - self._wall) > 1:  # somebody set the clock: the heap's times mean nothing now
                self._wall = _wall()
                self._reread()
            self.ticked_at = time.monotonic()
            seconds = float(super().tick(*args, **options))
        except Exception as error:  # Redis or the database is away: wait and go on
            log.warning("beat_stumbled: %s: %s", type(error).__name__, error)
            self._forget()
            self._hang_up()
            return ASK_SECONDS
        return seconds

    def apply_entry(self, entry: Bell, producer: Any = None) -> None:
        """Ring. What could not be rung raises, and stays due."""
        self.apply_async(entry, producer=producer, advance=False)
        if entry.seconds >= SELDOM_SECONDS:
            self._do_sync()

    def apply_async(self, entry: Bell, producer: Any = None, advance: bool = True, **options: Any) -> Any:
        """
        Ring, unless so many bells wait in the queue that nobody seems to hear them.

        What rings seldom rings all the same: its next bell may be a day away.
        """
        queue = entry.options["queue"]
        if entry.seconds <= OFTEN_SECONDS and self._waiting(queue) >= MOST_WAITING:
            if queue not in self._unheard:
                log.warning("bells_not_rung: nobody hears the queue %s", queue)
            self._unheard.add(queue)
            return None
        self._unheard.discard(queue)
        return super().apply_async(entry, producer=producer, advance=advance, **options)

    def sync(self) -> None:
        """Write down when each task last rang: one statement, and none by a beat that does not lead any more."""
        if not self._dirty:
            return
        if not self.lead.held:
            self._dirty.clear()
            return
        rung = [self._schedule[name].model for name in self._dirty if name in self._schedule]
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_celery_beat_periodictask AS task SET last_run_at = rung.at, total_run_count = rung.runs"
                " FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[]) AS rung(id, at, runs)"
                " WHERE task.id = rung.id",
                [[row.pk for row in rung], [row.last_run_at for row in rung], [row.total_run_count for row in rung]],
            )
        self._dirty.clear()

    def close(self) -> None:
        """Write down the last rings, and let another beat lead at once."""
        with _calmly("beat_not_closed"):
            super().close()
        self.lead.give_up()

    def enabled_models_qs(self) -> Any:
        """Ring nothing that the code does not name, whatever the table says."""
        names = [every.task for every in SCHEDULE]
        found = self.Model.objects.enabled().filter(task__in=names, interval__isnull=False)
        return found.extra(where=["name = task"]).select_related("interval")

    def all_as_schedule(self) -> dict[str, Bell]:
        self._read_at = time.monotonic()
        return super().all_as_schedule()

    def schedule_changed(self) -> bool:
        if time.monotonic() - self._read_at < REREAD_SECONDS:
            return super().schedule_changed()
        close_old_connections()
        self._last_timestamp = self.Changes.last_change()
        return True

    def _ensure_connected(self) -> Any:
        """Try once: what waits here cannot ring, nor see that it does not lead any more."""
        self.connection.transport_options = {**self.connection.transport_options, "socket_timeout": 5}
        return self.connection.ensure_connection(max_retries=1, interval_start=0.1, interval_step=0)

    def _waiting(self, queue: str) -> int:
        channel = self._ensure_connected().default_channel
        return int(channel.queue_declare(queue=queue, durable=True, auto_delete=False).message_count)

    def _forget(self) -> None:
        """Read the schedule anew before the next ring: until then another beat may ring."""
        self._dirty.clear()
        self._reread()

    def _reread(self) -> None:
        self._initial_read, self._heap = True, None

    def _hang_up(self) -> None:
        """Let go of connections that may be broken; new ones are made when they are needed."""
        self.__dict__.pop("producer", None)
        if (broker := self.__dict__.pop("connection", None)) is not None:
            with contextlib.suppress(Exception):
                broker.release()
        with contextlib.suppress(Exception):
            connection.close()


class Lead:
    """The lock that one beat holds at a time, on a connection of its own: who loses the one loses the other."""

    def __init__(self) -> None:
        self.held = False
        self._connection: psycopg.Connection | None = None

    def is_held(self) -> bool:
        """Tell whether this beat leads: the lock is still there, or is to be had."""
        try:
            if self._connection is None:
                self._connection = _connect()
            [(answer,)] = self._connection.execute("SELECT 1" if self.held else _TAKE).fetchall()
        except (psycopg.Error, Error) as error:
            log.warning("%s: %s", "beat_lost_the_lead" if self.held else "beat_waits", type(error).__name__)
            self.give_up()
            return False
        if answer and not self.held:
            log.info("beat_leads")
        self.held = bool(answer)
        return self.held

    def give_up(self) -> None:
        """Let go of the lock by closing its connection."""
        self.held = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect() -> psycopg.Connection:
    """Connect beside Django: its own connections come back by themselves, and would come back without the lock."""
    own = connection.copy()
    options = own.settings_dict["OPTIONS"]
    options.pop("pool", None)
    options |= {**_DEAD_PEER, "connect_timeout": 5, "application_name": f"beat {os.getpid()}"}
    own.ensure_connection()
    for name, seconds in _DEAD_LEADER.items():
        own.connection.execute("SELECT set_config(%s, %s, false)", [name, seconds])
    return own.connection


# --- heartbeats -------------------------------------------------------------------------------------------------------
def pulse(beat: Beat) -> None:
    """Say every few seconds that beat and Redis are at work: in a thread, so that no tick waits for it."""
    server = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
    )
    while True:
        time.sleep(PULSE_SECONDS)
        throb(beat, server)


def throb(beat: Beat, server: redis.Redis) -> None:
    """Write the heartbeats once, if this beat leads and ticks."""
    from marketplace import incidents

    if not beat.lead.held or time.monotonic() - beat.ticked_at > TICKING_SECONDS:
        return
    with _calmly("heartbeat_not_written"):
        close_old_connections()
        incidents.seen("beat")
        server.ping()
        incidents.seen("redis")


@contextlib.contextmanager
def _calmly(event: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever is away now is tried again by the next round
        log.warning("%s: %s: %s", event, type(error).__name__, error)
        with contextlib.suppress(Exception):
            connection.close()


def _wall() -> float:
    """How far the wall clock is ahead of the one that nobody sets."""
    return time.time() - time.monotonic()
