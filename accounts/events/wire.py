"""
One connection to a stranger: HTTP/1.1 as a client that only wants to know the status.

An answer's head has at most 16 KiB, of its body 4 KiB are read and thrown away; nothing is decoded or kept. That is a
sixth of the processor time of a general client, which is what bounds deliveries per second (docs/performance.md).
"""

import asyncio
import re
from dataclasses import dataclass
from typing import cast

MAX_HEAD_BYTES = 16_384
MAX_BODY_BYTES = 4_096
# For the rest of an answer whose status is known already.
DRAIN_SECONDS = 1.0
CHUNKED = -1
_MAX_INTERIM_ANSWERS = 4
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")


class Broken(Exception):
    """What came is no HTTP, or the connection ended before an answer."""


class Gone(Broken):
    """The connection ended before a single byte of an answer: one that was kept may have been closed long ago."""


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    retry_after: str | None
    keep_alive: bool
    # In bytes. None: until the connection ends.
    length: int | None


class Wire(asyncio.BufferedProtocol):
    """Reads little more than it was asked for: what a receiver sends beyond that waits in the receiver's machine."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._buffer = bytearray(4_096)
        self._received = bytearray()
        self._ended = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._reusable = False

    @property
    def is_idle(self) -> bool:
        """Whether another request may follow: everything was read, nothing came unasked, and it is still open."""
        return self._reusable and not self._ended and not self._received

    async def post(self, request: bytes) -> Head:
        """
        Send a whole request and read the answer.

        :raises Gone: if the connection had ended
        :raises Broken: if what came is no answer
        """
        self._reusable = False
        self._transport.write(request)
        head = await self._final_head()
        self._reusable = head.keep_alive and await self._drain(head)
        return head

    def close(self) -> None:
        # Not close(): a receiver that never reads would make us keep what we still have to send.
        self._transport.abort()

    async def _final_head(self) -> Head:
        for _ in range(_MAX_INTERIM_ANSWERS + 1):
            head = _parse(await self._until(b"\r\n\r\n", MAX_HEAD_BYTES))
            if head.status >= 200:
                return head
            if head.status == 101:
                break
        raise Broken

    async def _drain(self, head: Head) -> bool:
        """Throw the body away; whether it was short and whole, so that the connection can be used again."""
        if head.length is None or head.length > MAX_BODY_BYTES:
            return False
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                if head.length >= 0:
                    await self._exactly(head.length)
                else:
                    await self._chunks()
        except (Broken, TimeoutError):
            return False
        return True

    async def _chunks(self) -> None:
        left = MAX_BODY_BYTES
        while True:
            line = await self._until(b"\r\n", 64)
            size = line.split(b";", 1)[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]{1,4}", size):
                raise Broken
            if (length := int(size, 16)) == 0:
                await self._until(b"\r\n", 2)  # trailers are not worth the reading
                return
            left -= length
            if left < 0:
                raise Broken
            await self._exactly(length)
            await self._until(b"\r\n", 2)

    async def _until(self, mark: bytes, most: int) -> bytes:
        """What comes before the mark, without it."""
        start = 0
        while (found := self._received.find(mark, start, most)) < 0:
            if len(self._received) >= most:
                raise Broken
            start = max(0, len(self._received) - len(mark) + 1)
            await self._more()
        line = bytes(self._received[:found])
        del self._received[: found + len(mark)]
        return line

    async def _exactly(self, length: int) -> None:
        while len(self._received) < length:
            await self._more()
        del self._received[:length]

    async def _more(self) -> None:
        if self._ended:
            raise Broken if self._received else Gone
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, _: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, length: int) -> None:
        self._received += self._buffer[:length]
        if len(self._received) > MAX_HEAD_BYTES and not self._paused:
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


def _parse(head: bytes) -> Head:
    lines = head.split(b"\r\n")
    started = _STATUS_LINE.fullmatch(lines[0])
    if started is None:
        raise Broken
    status = int(started[2])
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or (name in fields and name in _SINGLE):
            raise Broken
        fields[name] = value.strip(b" \t")
    connection = fields.get(b"connection", b"").lower()
    keep_alive = connection == b"keep-alive" if started[1] == b"0" else b"close" not in connection
    return Head(
        status=status,
        retry_after=fields[b"retry-after"].decode("latin-1") if b"retry-after" in fields else None,
        keep_alive=keep_alive,
        length=_length(status, fields),
    )


# Twice, they could be read in two ways.
_SINGLE = {b"content-length", b"transfer-encoding"}


def _length(status: int, fields: dict[bytes, bytes]) -> int | None:
    if status < 200 or status in (204, 304):
        return 0
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if coding is not None:
        return CHUNKED if coding.lower() == b"chunked" and length is None else None
    if length is None:
        return None
    if not re.fullmatch(rb"[0-9]{1,18}", length):
        raise Broken
    return int(length)
