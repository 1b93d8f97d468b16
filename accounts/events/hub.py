"""
All streams of one process, on one event loop: each keeps its cursor, and at most one page that is being written.

One subscription to the doorbell wakes those whom it concerns; one statement each second finds whoever has news all the
same, so that Redis may be away; one statement every two seconds finds tokens that are no longer good. Statements run in
a few threads, whatever the number of streams, and no transaction is open while anybody waits.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TypeVar
from uuid import UUID

from django.db import Error, close_old_connections

from accounts.events import doorbell, places, seats, stream
from accounts.events.feed import Told
from accounts.events.stream import Asked

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
# Whoever was rung for is looked for again this often until the next poll: what is committed is readable only when no
# older transaction is open any more.
AGAIN_SECONDS = 0.05
# A client that takes nothing for so long is dropped.
PATIENCE_SECONDS = 10.0
PAGE = 20
# Places that are read by one statement: at most a thousand events at once.
BATCH = 50
THREADS = 2

Write = Callable[[bytes], Awaitable[None]]
Answer = TypeVar("Answer")


class Stream:
    """One connection."""

    def __init__(self, asked: Asked, write: Write) -> None:
        self.asked, self.place, self.write = asked, asked.place, write
        self.page: Sequence[Told] = ()
        self.ended = False
        self._woken = asyncio.Event()

    def give(self, page: Sequence[Told]) -> None:
        """Hand over what comes next; it is asked for more when this is written."""
        self.page = page
        self._woken.set()

    def end(self) -> None:
        self.ended = True
        self._woken.set()

    async def run(self, hungry: Callable[["Stream", bool], None]) -> None:
        """Write until the end: what came, and a heartbeat when nothing does."""
        await self._write(stream.opening(self.asked))
        while not self.ended:
            if not self.page and not await self._woke():
                await self._write(stream.HEARTBEAT)
            elif self.page:
                await self._write(b"".join(map(stream.frame, self.page)))
                self.place = self.place._replace(cursor=self.page[-1].cursor)
                full, self.page = len(self.page) == PAGE, ()
                hungry(self, full)

    async def _woke(self) -> bool:
        try:
            async with asyncio.timeout(stream.HEARTBEAT_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.write(data)


class Hub:
    """The streams of this process and what they are woken by."""

    def __init__(self, *, most: int = 2_000, most_of_an_agent: int = 20) -> None:
        self.seats = seats.Seats(most=most, most_of_an_agent=most_of_an_agent)
        self._streams: set[Stream] = set()
        self._of: dict[UUID, set[Stream]] = {}
        # Whom to read for, and until when (loop time) again if there is nothing yet.
        self._due: dict[Stream, float] = {}
        self._wake = asyncio.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="stream")
        self._tasks: list[asyncio.Task[None]] = []

    async def hold(self, asked: Asked, write: Write, gone: Awaitable[object]) -> None:
        """Stream to one client until it is gone, too slow, no longer allowed, or this process ends."""
        self._start()
        one = Stream(asked, write)
        leaving = asyncio.ensure_future(gone)
        leaving.add_done_callback(lambda _: one.end())
        self._streams.add(one)
        self._of.setdefault(asked.place.agent_id, set()).add(one)
        self._expect([one])
        if self.seats.closed:
            one.end()
        try:
            with contextlib.suppress(TimeoutError):
                await one.run(self._hungry)
        finally:
            leaving.cancel()
            self._forget(one)

    def end(self) -> None:
        """End every stream at once: clients come back with `Last-Event-ID`, to another process or the next."""
        self.seats.closed = True
        for one in self._streams:
            one.end()

    def _forget(self, one: Stream) -> None:
        self._streams.discard(one)
        self._due.pop(one, None)
        of_agent = self._of[one.asked.place.agent_id]
        of_agent.discard(one)
        if not of_agent:
            del self._of[one.asked.place.agent_id]

    # --- who has news -------------------------------------------------------------------------------------------------
    def _expect(self, streams: Iterable[Stream]) -> None:
        until = asyncio.get_running_loop().time() + POLL_SECONDS
        for one in streams:
            self._due[one] = until
        self._wake.set()

    def _hungry(self, one: Stream, more: bool) -> None:
        if more:
            self._due.setdefault(one, 0.0)
        if one in self._due:  # or somebody rang while it was written
            self._wake.set()

    async def _listen(self) -> None:
        async with aclosing(doorbell.listen()) as rings:
            async for agents in rings:
                for agent_id in agents:
                    if agent_id in self._of:
                        self._expect(self._of[agent_id])

    async def _poll(self) -> None:
        """Find who has news, whoever rang; the others need not look through the same rows again."""
        idle = [one for one in self._streams if not one.page and one not in self._due]
        asked = [one.place for one in idle]
        found = await self._ask(partial(places.look, asked))
        for position, (one, place) in enumerate(zip(idle, asked, strict=True)):
            if position in found.news:
                self._due.setdefault(one, 0.0)
            elif one.place is place and not one.page:
                one.place = stream.behind(place, found.until)

    async def _serve(self) -> bool:
        """Read for those who are due and wait for it; answer whether some have to be looked for again."""
        waiting = [one for one in self._due if not one.page and not one.ended]
        for start in range(0, len(waiting), BATCH):
            batch = [(one, self._due[one]) for one in waiting[start : start + BATCH] if one in self._due]
            pages = await self._ask(partial(places.read, [one.place for one, _ in batch], limit=PAGE))
            for (one, until), page in zip(batch, pages, strict=True):
                if page:
                    one.give(page)
                elif asyncio.get_running_loop().time() < until:
                    continue
                if self._due.get(one) == until:  # nobody rang meanwhile
                    del self._due[one]
        return any(not one.page for one in self._due)

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        poll = clock() + POLL_SECONDS
        while True:
            self._wake.clear()
            try:
                if clock() >= poll:
                    poll = clock() + POLL_SECONDS
                    await self._poll()
                pause = AGAIN_SECONDS if await self._serve() else poll - clock()
            except Error as error:
                log.warning("stream_not_read error=%s", type(error).__name__)
                await asyncio.sleep(POLL_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause, 0)):
                    await self._wake.wait()

    # --- who may still listen -----------------------------------------------------------------------------------------
    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(stream.CHECK_SECONDS)
            streams = list(self._streams)
            try:
                good = await self._ask(partial(seats.still_good, {one.asked.token_id for one in streams}))
            except Error as error:
                log.warning("stream_tokens_not_read error=%s", type(error).__name__)
                continue
            for one in streams:
                if one.asked.token_id not in good:
                    one.end()

    # --- threads and tasks --------------------------------------------------------------------------------------------
    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._pool, _asked, question)

    def _start(self) -> None:
        """Start what all streams share, with the first of them."""
        if not self._tasks:
            for work in (self._listen, self._work, self._watch):
                self._tasks.append(asyncio.create_task(self._for_ever(work)))

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("stream_stumbled")
                await asyncio.sleep(POLL_SECONDS)


def _asked(question: Callable[[], Answer]) -> Answer:
    close_old_connections()
    try:
        return question()
    finally:
        close_old_connections()
