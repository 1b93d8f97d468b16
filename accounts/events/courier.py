"""
Sends what is due to webhook endpoints, hundreds at once: an event loop in a thread that outlives the task that rings.

One further thread speaks to the database, by one connection: it records what came back and claims what is due, all that
has gathered in one go. Whatever waits for strangers is in the loop, where waiting costs nothing. Receivers that fail or
are slow get no more than a part of the places.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

from accounts.events import desk, doorbell, egress
from accounts.events.lanes import Client, Lane
from accounts.events.parcels import Parcel, Result, Return, Standing

log = logging.getLogger(__name__)

# Requests in flight in one process, and how many of them may be to receivers that fail or are slow.
LANES = 500
DOUBTFUL_LANES = 300
# So long after a slow answer a receiver counts as slow.
SLOW_FOR_SECONDS = 60.0
# So long what happens gathers before the database is spoken to.
GATHER_SECONDS = 0.01
# Between two looks at all endpoints that nobody rang for; and after the database did not answer.
PAUSE_SECONDS = 0.1
TROUBLE_SECONDS = 1.0
# So long requests in flight are waited for at the end.
STOP_SECONDS = 5.0


# --- one for each process ---------------------------------------------------------------------------------------------
def ring() -> None:
    """Have what is due now sent, by a thread of this process; returns at once."""
    _courier().ring()


def run_until_idle(*, timeout_seconds: float = 60.0) -> None:
    """Send until nothing is due that no other process has; raises TimeoutError."""
    _courier().run_until_idle(timeout_seconds=timeout_seconds)


def stop() -> None:
    """Claim no more, wait a little for what is in flight, and give back what was not sent."""
    global _ours
    with _lock:
        stopped, _ours = _ours, None
    if stopped is not None:
        stopped.stop()


def _courier() -> "Courier":
    global _ours
    with _lock:
        if _ours is None or not _ours.is_alive:
            _ours = Courier()
        return _ours


def _forget() -> None:
    """A child of this process has none of its threads."""
    global _ours, _lock
    _ours, _lock = None, threading.Lock()


_ours: "Courier | None" = None
_lock = threading.Lock()
os.register_at_fork(after_in_child=_forget)


class Courier:
    """The sending of one process. What has no underscore is for other threads."""

    def __init__(self, client: Client | None = None, *, lanes: int = LANES, doubtful: int = DOUBTFUL_LANES) -> None:
        self._client, self._most, self._most_doubtful = client, lanes, doubtful
        self._loop = asyncio.new_event_loop()
        self._desk = ThreadPoolExecutor(1, thread_name_prefix="courier-desk")
        self._woken, self._round_over = asyncio.Event(), asyncio.Event()
        self._is_stopping = False
        # What to claim: looks at everything that were asked for and done, and who else has news.
        self._asked = self._answered = 0
        self._may_look_at = 0.0
        self._found_nothing = self._doubtful_wait = False
        self._agents: set[UUID] = set()
        self._endpoints: set[UUID] = set()
        # What to record.
        self._results: list[Result] = []
        self._returned: list[Return] = []
        # What is being sent, and to whom.
        self._lanes: dict[asyncio.Task[None], Lane] = {}
        self._to: dict[UUID, set[Lane]] = {}
        self._doubtful: set[Lane] = set()
        self._slow_until: dict[UUID, float] = {}
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def ring(self) -> None:
        """Say that something may be due."""
        self._loop.call_soon_threadsafe(self._ask)

    def run_until_idle(self, *, timeout_seconds: float = 60.0) -> None:
        """Send until nothing is due that nobody else has; raises TimeoutError."""
        asyncio.run_coroutine_threadsafe(self._idle(), self._loop).result(timeout_seconds)

    def stop(self) -> None:
        """Claim no more, wait a little for what is in flight, and give back what was not sent."""
        with suppress(RuntimeError):  # the loop is closed: it has stopped already
            self._loop.call_soon_threadsafe(self._begin_to_stop)
        self._thread.join(3 * STOP_SECONDS)

    # --- the loop -----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._work())
        except Exception:
            log.exception("courier_broke_down")
        finally:
            self._desk.submit(desk.close)
            self._desk.shutdown()
            self._loop.close()

    async def _work(self) -> None:
        listening = asyncio.create_task(self._listen())
        async with egress.Client() as strangers:
            while not self._is_stopping:
                await self._woken.wait()
                await asyncio.sleep(GATHER_SECONDS)
                self._woken.clear()
                await self._round(self._client or strangers)
            await self._finish_what_is_in_flight()
            await self._round(strangers)
        while not listening.done():  # somebody in between may take a cancellation for an end of the connection
            listening.cancel()
            await asyncio.wait([listening], timeout=0.1)

    async def _listen(self) -> None:
        async for agents in doorbell.listen():
            self._agents.update(agents)
            self._woken.set()

    async def _idle(self) -> None:
        while True:
            asked = self._ask()
            while self._answered < asked or self._lanes or self._results or self._returned:
                self._round_over.clear()
                await self._round_over.wait()
            if self._found_nothing:
                return

    def _ask(self) -> int:
        """Want a look at every endpoint, now."""
        self._asked += 1
        self._may_look_at = 0.0
        self._woken.set()
        return self._asked

    def _begin_to_stop(self) -> None:
        self._is_stopping = True
        for lane in self._lanes.values():
            lane.is_stopped = True
        self._woken.set()

    async def _finish_what_is_in_flight(self) -> None:
        """Whether the last ones arrived nobody knows: they are sent again when their leases have run out."""
        if self._lanes:
            _, late = await asyncio.wait(self._lanes, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            await asyncio.sleep(0)  # in which they are returned

    # --- one round: record, claim, send -------------------------------------------------------------------------------
    async def _round(self, client: Client) -> None:
        results, self._results = self._results, []
        returned, self._returned = self._returned, []
        asked, looks_at_all, claim = self._asked, self._may_look_at_all(), None
        if not self._is_stopping and len(self._lanes) < self._most:
            claim = self._next_claim(looks_at_all)
        try:
            standings, parcels = await self._loop.run_in_executor(self._desk, desk.exchange, results, returned, claim)
        except Exception as error:
            log.warning("courier_desk_failed error=%s results=%s", type(error).__name__, len(results))
            self._results, self._returned = results + self._results, returned + self._returned
            if not self._is_stopping:
                await asyncio.sleep(TROUBLE_SECONDS)
            self._ask()
            return
        for standing in standings:
            self._obey(standing)
        for parcel in parcels:
            self._start(parcel, client)
        if claim is not None:
            self._look_again(claim, parcels)
            if looks_at_all:
                self._answered, self._found_nothing = asked, not parcels
        self._round_over.set()

    def _may_look_at_all(self) -> bool:
        """Looking at all endpoints costs something: not too often, unless somebody rings."""
        if self._asked == self._answered:
            return False
        if (early := self._may_look_at - time.monotonic()) > 0:
            self._loop.call_later(early, self._woken.set)
            return False
        return True

    def _next_claim(self, looks_at_all: bool) -> dict[str, Any] | None:
        if not looks_at_all and not self._agents and not self._endpoints:
            return None
        now = time.monotonic()
        self._slow_until = {endpoint: until for endpoint, until in self._slow_until.items() if until > now}
        claim: dict[str, Any] = {
            "limit": self._most - len(self._lanes),
            "doubtful": max(0, self._most_doubtful - len(self._doubtful)),
            "slow": list(self._slow_until),
        }
        if looks_at_all:
            self._may_look_at = now + PAUSE_SECONDS
        else:
            claim |= {"endpoints": self._endpoints, "agents": self._agents}
        self._endpoints, self._agents = set(), set()
        return claim

    def _look_again(self, claim: dict[str, Any], parcels: Sequence[Parcel]) -> None:
        """What was not claimed because there was no room is claimed when there is."""
        doubtful = sum(self._is_doubtful(parcel) for parcel in parcels)
        self._doubtful_wait = self._doubtful_wait or doubtful >= claim["doubtful"]
        if len(parcels) == claim["limit"]:
            self._asked += 1
            self._woken.set()

    # --- lanes --------------------------------------------------------------------------------------------------------
    def _start(self, parcel: Parcel, client: Client) -> None:
        lane = Lane(parcel)
        task = self._loop.create_task(lane.send(client, self._note))
        self._lanes[task] = lane
        self._to.setdefault(parcel.endpoint.pk, set()).add(lane)
        if self._is_doubtful(parcel):
            self._doubtful.add(lane)
        task.add_done_callback(self._finish)
        if parcel.may_have_more:  # for the other lane
            self._endpoints.add(parcel.endpoint.pk)
            self._woken.set()

    def _note(self, result: Result) -> None:
        self._results.append(result)
        if result.closes:
            for lane in self._to.get(result.parcel.endpoint.pk, ()):
                lane.is_stopped = True
        self._woken.set()

    def _obey(self, standing: Standing) -> None:
        """An endpoint that was changed meanwhile gets nothing more by what was known of it before."""
        for lane in self._to.get(standing.endpoint_id, ()):
            if not standing.is_enabled or standing.revision != lane.parcel.endpoint.revision:
                lane.is_stopped = True

    def _finish(self, task: asyncio.Task[None]) -> None:
        lane = self._lanes.pop(task)
        endpoint_id = lane.parcel.endpoint.pk
        self._to[endpoint_id].discard(lane)
        if not self._to[endpoint_id]:
            del self._to[endpoint_id]
        if lane in self._doubtful:
            self._doubtful.discard(lane)
            if self._doubtful_wait:
                self._doubtful_wait = False
                self._asked += 1
        if lane.is_slow:
            self._slow_until[endpoint_id] = time.monotonic() + SLOW_FOR_SECONDS
        else:
            self._slow_until.pop(endpoint_id, None)
        if lane.unsent or lane.parcel.may_have_more:
            self._endpoints.add(endpoint_id)
        self._returned.append(Return(lane.parcel, lane.unsent))
        self._woken.set()

    def _is_doubtful(self, parcel: Parcel) -> bool:
        return parcel.endpoint.failing_since is not None or parcel.endpoint.pk in self._slow_until
