"""
One connection to a stranger: h11 speaks HTTP/1.1, and this carries its bytes, as a client that only wants the status.

An answer's head has at most 16 KiB, of its body 4 KiB are read and thrown away; nothing is decoded or kept.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import h11

MAX_HEAD_BYTES = 16_384
MAX_BODY_BYTES = 4_096
# For the rest of an answer whose status is known already.
DRAIN_SECONDS = 1.0
_MAX_INTERIM_ANSWERS = 4


class Broken(Exception):
    """What came is no HTTP, or the connection ended before an answer."""


class Gone(Broken):
    """The connection ended before a single byte of an answer: one that was kept may have been closed long ago."""


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    retry_after: str | None


class Wire(asyncio.BufferedProtocol):
    """Reads a piece at a time, as it is needed: what a receiver sends beyond that waits in the receiver's machine."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._buffer = bytearray(4_096)
        self._received = bytearray()
        self._answered = False
        self._ended = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._reusable = False

    @property
    def is_idle(self) -> bool:
        """Whether another request may follow: everything was read, nothing came unasked, and it is still open."""
        return self._reusable and not self._ended and not self._received

    async def post(self, request: h11.Request, body: bytes) -> Head:
        """
        Send a whole request and read the answer.

        :raises Gone: if the connection had ended
        :raises Broken: if what came is no answer
        """
        self._reusable = self._answered = False
        parts: tuple[h11.Event, ...] = (request, h11.Data(body), h11.EndOfMessage())
        self._transport.write(b"".join(self._http.send(part) or b"" for part in parts))
        head = await self._final_head()
        if await self._drain():
            self._reusable = True
            self._read_on()  # to hear that it ends, or says what nobody asked
        return head

    def close(self) -> None:
        # Not close(): a receiver that never reads would make us keep what we still have to send.
        self._transport.abort()

    async def _final_head(self) -> Head:
        for _ in range(_MAX_INTERIM_ANSWERS + 1):
            answer = await self._event()
            if isinstance(answer, h11.Response):
                said = next((value for name, value in answer.headers if name == b"retry-after"), None)
                return Head(answer.status_code, said.decode("latin-1") if said is not None else None)
            if not isinstance(answer, h11.InformationalResponse):
                break
        raise Broken

    async def _drain(self) -> bool:
        """Throw the body away; whether it was short and whole, so that the connection can be used again."""
        left = MAX_BODY_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while isinstance(part := await self._event(), h11.Data):
                    left -= len(part.data)
                    if left < 0:
                        return False
        except (Broken, TimeoutError):
            return False
        if self._http.their_state is not h11.DONE or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        return True

    async def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._more())
        except h11.RemoteProtocolError as error:
            raise Broken from error
        return event

    async def _more(self) -> bytes:
        """What came; empty once the receiver sends no more."""
        if not self._received and not self._ended:
            self._read_on()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._received and not self._answered:
            raise Gone
        self._answered = True
        received = bytes(self._received)
        self._received.clear()
        return received

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, _: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, length: int) -> None:
        self._received += self._buffer[:length]
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, _: Exception | None) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
