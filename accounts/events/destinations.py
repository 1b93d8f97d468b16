"""A stranger's URL, taken apart strictly: what two parsers could read in two ways is refused."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

import idna
from django.conf import settings

from accounts.events import addresses

MAX_URL_CHARACTERS = 2048
PORTS = {443, 8443}

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<target>[^#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]{2,45}\]|[^\[\]:@%]{1,253})(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# What a URL parser of the web would take for an IPv4 address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Blocked(Exception):
    """We do not connect there: `word` is stored and shown (`bad_url`, `blocked_address`), `detail` is for people."""

    def __init__(self, word: str, detail: str = "") -> None:
        self.word, self.detail = word, detail
        super().__init__(word)


@dataclass(frozen=True, slots=True)
class Destination:
    """`host` is ASCII without brackets; `literal` is set where it is an address and no name; `target` has the query."""

    tls: bool
    host: str
    port: int
    target: str
    literal: IPv4Address | IPv6Address | None
    # A receiver on this machine, where the settings allow it.
    loopback: bool

    @property
    def origin(self) -> tuple[bool, str, int]:
        return self.tls, self.host, self.port

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse(url: str) -> Destination:
    """
    Take a URL apart.

    :raises Blocked: if it is not one that we would ever post to
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise Blocked("bad_url", f"A URL has at most {MAX_URL_CHARACTERS} characters.")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise Blocked("bad_url", "A URL has no spaces, control characters or backslashes.")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise Blocked("bad_url", "Name an https:// URL without a fragment.")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise Blocked("bad_url", "Name a host, and perhaps a port, without user name, password or zone.")
    tls = parts["scheme"].lower() == "https"
    host, literal = _host(authority["host"])
    loopback = settings.EGRESS_LOOPBACK and (literal.is_loopback if literal else host == "localhost")
    port = int(authority["port"] or (443 if tls else 80))
    if loopback:
        if not 0 < port < 65536:
            raise Blocked("bad_url", "There is no such port.")
    else:
        if not tls:
            raise Blocked("bad_url", "Name an https:// URL.")
        if port not in PORTS:
            raise Blocked("bad_url", "The port is 443 or 8443.")
        if literal and not addresses.is_public(literal):
            raise Blocked("blocked_address", "This is not a public address.")
    return Destination(tls, host, port, _target(parts["target"]), literal, loopback)


def _host(host: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    if host.startswith("["):
        try:
            literal = IPv6Address(host[1:-1])
        except ValueError as error:
            raise Blocked("bad_url", "This is no IPv6 address.") from error
        return literal.compressed, literal
    name = _ascii(host).removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return name, IPv4Address(name)
        except ValueError as error:
            raise Blocked("bad_url", "Write an IPv4 address as four decimal numbers.") from error
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Blocked("bad_url", "This is no name of a host.")
    if len(labels) < 2 and not (settings.EGRESS_LOOPBACK and name == "localhost"):
        raise Blocked("bad_url", "Name the host in full.")
    return name, None


def _ascii(host: str) -> str:
    """In ASCII (IDNA 2008 after the mapping of UTS 46, which turns other scripts' digits and dots into ours)."""
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise Blocked("bad_url", "This is no name of a host.") from error


def _target(target: str) -> str:
    if not target.startswith("/"):
        target = "/" + target
    try:
        return quote(target, safe="/?:@!$&'()*+,;=%-._~[]|")
    except UnicodeEncodeError as error:
        raise Blocked("bad_url", "This is not text.") from error
