"""
What an agent is told, as it happens: server-sent events (WHATWG HTML, section 9.2).

The `id:` of an event is its cursor, so that `Last-Event-ID` resumes behind it. Here is what a stream looks like, and
the plain form of it for WSGI, where an open stream holds a thread; `accounts.events.hub` holds thousands without one.
"""

import random
import time
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from django.db import close_old_connections
from django.http import StreamingHttpResponse

from accounts.events import places, rendering, seats
from accounts.events.feed import Cursor, Told
from accounts.events.places import Place
from accounts.events.seats import Seats

HEARTBEAT = b": heartbeat\n\n"
HEARTBEAT_SECONDS = 15.0
# A token that was revoked is noticed after so long.
CHECK_SECONDS = 2.0
# How long a client waits before it comes back; not all of them at the same moment.
RETRY_MILLISECONDS = (1_000, 2_000)
# Of the web process's four threads two stay free for everything else, and nobody keeps one for long.
THREADED = Seats(most=2, most_of_an_agent=2)
THREADED_SECONDS = 30.0
THREADED_POLL_SECONDS = 0.5
PAGE = 100


class Asked(NamedTuple):
    """A stream that may be opened: where it begins, under which token, and whether its client knows that place."""

    place: Place
    token_id: UUID
    resumed: bool


class Streamed(StreamingHttpResponse):
    """The answer that is a stream: `asked` for who can hold it, its content for who has but a thread."""

    def __init__(self, asked: Asked, seated: Seats) -> None:
        super().__init__(threaded(asked), content_type="text/event-stream")
        self["Cache-Control"] = "no-cache"
        self["X-Accel-Buffering"] = "no"
        self.asked = asked
        self._seated: Seats | None = seated

    def close(self) -> None:
        """Give the seat back, once."""
        seated, self._seated = self._seated, None
        if seated:
            seated.leave(self.asked.place.agent_id)
        super().close()


def opening(asked: Asked) -> bytes:
    """
    Begin a stream.

    An `id:` alone is no event, but what a client sends back when it is cut before the first one.
    """
    known = "" if asked.resumed else f"id: {asked.place.cursor}\n"
    return f"retry: {random.randint(*RETRY_MILLISECONDS)}\n{known}\n".encode()


def frame(told: Told) -> bytes:
    """Write one event; its JSON has no line ends."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        str(told.cursor).encode(), told.type.encode(), rendering.body(told),
    )  # fmt: skip


def behind(place: Place, until: Cursor) -> Place:
    """Move a place up to where it has no news, so that what its filter skipped is not looked through again."""
    return place._replace(cursor=max(place.cursor, until))


def threaded(asked: Asked) -> Iterator[bytes]:
    """Hold a stream by a thread, for a short while; the client comes back with `Last-Event-ID`."""
    place, now = asked.place, time.monotonic()
    end, beat, check = now + THREADED_SECONDS, now + HEARTBEAT_SECONDS, now + CHECK_SECONDS
    yield opening(asked)
    while (now := time.monotonic()) < end:
        if now >= check:
            check = now + CHECK_SECONDS
            if not seats.still_good([asked.token_id]):
                return
        found = places.look([place])
        events = places.read([place], limit=PAGE)[0] if found.news else []
        close_old_connections()  # no connection of the pool waits with us
        if events:
            place = place._replace(cursor=events[-1].cursor)
            yield b"".join(map(frame, events))
            continue
        place = behind(place, found.until)
        if now >= beat:
            beat = now + HEARTBEAT_SECONDS
            yield HEARTBEAT
        time.sleep(min(THREADED_POLL_SECONDS, end - now))
