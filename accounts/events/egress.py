"""
The only way to strangers' URLs.

Names are looked up once, every address found must be public, and the connection goes to an address that was checked,
with the name in Host, SNI and certificate (trust.md, section 5). No redirects, proxies, cookies or encodings: nothing
that a receiver says is kept but the status and Retry-After.
"""

import asyncio
import email.utils
import math
import socket
import ssl
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

import h11
from django.conf import settings

from accounts.errors import Invalid
from accounts.events import addresses, destinations, names, wire
from accounts.events.destinations import Blocked, Destination

__all__ = ["Answer", "Blocked", "Client", "Unreachable", "check"]

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
# So long a connection is used: then the name is looked up anew.
MAX_AGE_SECONDS = 60.0
MAX_IDLE = 256
# Of those that a name leads to, so many are tried.
MAX_ADDRESSES = 4
MAX_RETRY_AFTER_SECONDS = 604_800
USER_AGENT = "Bailee-Webhooks/1"


class Unreachable(Exception):
    """No answer came: `word` is stored and shown (`dns`, `refused`, `timeout`, `tls`, `protocol`)."""

    def __init__(self, word: str) -> None:
        self.word = word
        super().__init__(word)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    retry_after_seconds: int | None


def check(url: str) -> None:
    """
    Refuse a URL that we would never post to. Where its name leads is looked up with each connection.

    :raises Invalid: at /url
    """
    try:
        destinations.parse(url)
    except Blocked as refusal:
        raise Invalid.at("/url", refusal.word, refusal.detail) from refusal


class Client:
    """
    Posts to strangers from one event loop.

    A connection is kept for a minute after its name was looked up; one receiver gets as many as callers post at once.
    """

    def __init__(self) -> None:
        self._names = names.Names(settings.EGRESS_NAMESERVERS)
        self._tls = self._trust()
        self._idle: dict[_Origin, list[_Connection]] = {}
        self._idle_count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for kept in self._idle.values():
            for connection in kept:
                connection.wire.close()
        self._idle, self._idle_count = {}, 0
        await asyncio.sleep(0)  # in which the event loop closes them

    async def post(self, url: str, *, headers: dict[str, str], body: bytes) -> Answer:
        """
        Post once, within 15 seconds.

        :raises Blocked: if nothing was sent, because we do not connect there
        :raises Unreachable: if no answer came; the receiver may have got it all the same
        """
        destination = destinations.parse(url)
        request = _request(destination, headers, body)
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                head = await self._send(destination, request, body)
        except TimeoutError as error:
            raise Unreachable("timeout") from error
        except wire.Broken as error:
            raise Unreachable("protocol") from error
        return Answer(head.status, _seconds(head.retry_after))

    async def _send(self, destination: Destination, request: h11.Request, body: bytes) -> wire.Head:
        if (kept := self._take(destination.origin)) is not None:
            try:
                return await self._exchange(kept, request, body)
            except wire.Gone:
                pass  # closed by the receiver in the meantime: not a byte of an answer came
        return await self._exchange(await self._connect(destination), request, body)

    async def _exchange(self, connection: "_Connection", request: h11.Request, body: bytes) -> wire.Head:
        try:
            return await connection.wire.post(request, body)
        finally:
            self._put_back(connection)

    async def _connect(self, destination: Destination) -> "_Connection":
        looked_up_at = time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connected = await _connected(await self._addresses(destination), destination.port)
                made = await self._greet(connected, destination)
        except TimeoutError as error:
            raise Unreachable("timeout") from error
        connection = _Connection(destination.origin, made, looked_up_at + MAX_AGE_SECONDS)
        asyncio.get_running_loop().call_later(MAX_AGE_SECONDS, self._expire, connection)
        return connection

    async def _addresses(self, destination: Destination) -> "list[_Address]":
        """Where the name leads, if every answer is one that a stranger may be reached at."""
        if destination.loopback:
            return [destination.literal or IPv4Address("127.0.0.1")]
        try:
            found = [destination.literal] if destination.literal else await self._names.addresses(destination.host)
        except names.Unknown as error:
            raise Unreachable("dns") from error
        if not all(self._is_public(address) for address in found):
            raise Blocked("blocked_address")
        return found

    async def _greet(self, connected: socket.socket, destination: Destination) -> wire.Wire:
        """Over TLS the certificate must be for the name, whatever address it led to."""
        try:
            _, made = await asyncio.get_running_loop().create_connection(
                wire.Wire,
                sock=connected,
                ssl=self._tls if destination.tls else None,
                server_hostname=destination.host if destination.tls else None,
            )
        except OSError as error:
            raise Unreachable("tls") from error
        return made

    # Connections that wait for the next post.

    def _take(self, origin: "_Origin") -> "_Connection | None":
        while kept := self._idle.get(origin):
            connection = kept.pop()
            self._forget(origin, kept)
            if connection.wire.is_idle:
                return connection
            connection.wire.close()
        return None

    def _put_back(self, connection: "_Connection") -> None:
        keep = connection.wire.is_idle and time.monotonic() < connection.expires_at and self._idle_count < MAX_IDLE
        if not keep:
            connection.wire.close()
            return
        self._idle.setdefault(connection.origin, []).append(connection)
        self._idle_count += 1

    def _expire(self, connection: "_Connection") -> None:
        kept = self._idle.get(connection.origin, [])
        if connection in kept:
            kept.remove(connection)
            self._forget(connection.origin, kept)
            connection.wire.close()

    def _forget(self, origin: "_Origin", kept: "list[_Connection]") -> None:
        self._idle_count -= 1
        if not kept:
            del self._idle[origin]

    # What tests stand in for: nothing in the settings does.

    def _is_public(self, address: "_Address") -> bool:
        return addresses.is_public(address)

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context


_Address = IPv4Address | IPv6Address
_Origin = tuple[bool, str, int]


@dataclass(slots=True, eq=False)
class _Connection:
    origin: _Origin
    wire: wire.Wire
    expires_at: float


async def _connected(found: list[_Address], port: int) -> socket.socket:
    """A TCP connection to the first that takes one; each gets its share of the time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_SECONDS
    timed_out = False
    found = found[:MAX_ADDRESSES]
    for position, address in enumerate(found):
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            connecting = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # a machine without IPv6
            continue
        connecting.setblocking(False)
        try:
            async with asyncio.timeout((deadline - loop.time()) / (len(found) - position)):
                await loop.sock_connect(connecting, (str(address), port))
            return connecting
        except TimeoutError:
            timed_out = True
            connecting.close()
        except OSError:
            connecting.close()
        except BaseException:
            connecting.close()
            raise
    raise Unreachable("timeout" if timed_out else "refused")


def _request(destination: Destination, headers: dict[str, str], body: bytes) -> h11.Request:
    fields = {
        "user-agent": USER_AGENT,
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        **{name.lower(): value for name, value in headers.items()},
        "host": destination.authority,
        "content-length": str(len(body)),
    }
    return h11.Request(method="POST", target=destination.target, headers=list(fields.items()))


def _seconds(retry_after: str | None) -> int | None:
    """From seconds, or from a date (RFC 9110, section 10.2.3); what is neither counts as not said."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return min(int(retry_after[:12]), MAX_RETRY_AFTER_SECONDS)
    try:
        until = email.utils.parsedate_to_datetime(retry_after)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0, min(math.ceil(until.timestamp() - time.time()), MAX_RETRY_AFTER_SECONDS))
