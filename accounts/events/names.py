"""Names of strangers, looked up in the DNS alone: never in this machine's files, and with no search list."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

# Of the five seconds that connecting may take; one server gets a third of it before the next is asked.
LOOKUP_SECONDS = 3.0
SERVER_SECONDS = 1.0


class Unknown(Exception):
    """The name has no address, or nobody says so in time."""


class Names:
    """
    The name servers we ask.

    :param servers: `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`; none: those of the machine
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers = [_server(server) for server in servers]
        self._resolver.lifetime = LOOKUP_SECONDS
        self._resolver.timeout = SERVER_SECONDS

    async def addresses(self, host: str) -> list[IPv4Address | IPv6Address]:
        """
        Every address of a host, its aliases followed, those of IPv4 first.

        :raises Unknown: if it has none
        """
        found = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"))
        if not (addresses := [address for answer in found for address in answer]):
            raise Unknown
        return addresses

    async def _ask(self, host: str, kind: str) -> list[IPv4Address | IPv6Address]:
        try:
            answer = await self._resolver.resolve(dns.name.from_text(f"{host}."), kind, raise_on_no_answer=False)
        except (dns.exception.DNSException, OSError):
            return []
        return [ip_address(record.address) for record in answer]


def _server(server: str) -> dns.nameserver.Nameserver:
    host, port = server, 53
    if server.startswith("["):
        host, _, rest = server[1:].partition("]")
        port = int(rest.removeprefix(":") or 53)
    elif server.count(":") == 1:
        host, _, text = server.partition(":")
        port = int(text)
    return dns.nameserver.Do53Nameserver(host, port)
