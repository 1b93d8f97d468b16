"""Strangers on this machine: a name server, receivers that behave as told, and a canary that nobody may reach."""

import socket
import socketserver
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from accounts.events import egress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Client(egress.Client):
    """One that takes some addresses of this machine for public, and trusts an authority of the tests, or none."""

    public: frozenset[IPv4Address | IPv6Address] = frozenset()
    context: ssl.SSLContext | None = None

    def _is_public(self, address: IPv4Address | IPv6Address) -> bool:
        return address in self.public or super()._is_public(address)

    def _trust(self) -> ssl.SSLContext:
        return self.context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(*public: str, trusting: ssl.SSLContext | None = None) -> Client:
    made = type("Lenient", (Client,), {"public": frozenset(map(ip_address, public)), "context": trusting})
    return made()


# --- who listens ----------------------------------------------------------------------------------------------------
class Canary:
    """Listens on one address or, as is its rule, on every one of this machine, IPv4 and IPv6; counts who came."""

    def __init__(self, address: str = "::") -> None:
        self.visits = 0
        self._came: set[int] = set()
        every = {"family": socket.AF_INET6, "dualstack_ipv6": True} if address == "::" else {}
        self._listener = socket.create_server((address, 0), backlog=128, **every)
        self._listener.settimeout(0.01)
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()

    def silent(self) -> bool:
        """Whether nobody came, asked once everybody who is on the way has been let in."""
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            own = last.getsockname()[1]
            while own not in self._came:
                threading.Event().wait(0.001)
        self.visits -= 1
        return self.visits == 0

    def _count(self) -> None:
        while not self._over.is_set():
            try:
                visitor, address = self._listener.accept()
            except TimeoutError:
                continue
            visitor.close()
            self.visits += 1
            self._came.add(address[1])


class Receiver:
    """
    Takes connections on one address; `behave(connection)` has each, in a thread, after TLS if there is any.

    `connections` counts them, `names` are those asked for by SNI.
    """

    def __init__(
        self,
        behave: Callable[[socket.socket], object],
        *,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.connections = 0
        self.names: list[str | None] = []
        self._behave, self._tls = behave, tls
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._listener = socket.create_server((address, port))
        self._listener.settimeout(0.01)
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            self._threads.append(thread := threading.Thread(target=self._have, args=[connection], daemon=True))
            thread.start()

    def _have(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as spoken:
                self._behave(spoken)
        except OSError:
            pass  # the other side has had enough
        finally:
            connection.close()


def request_on(connection: socket.socket) -> bytes:
    """One whole request; nothing if the connection ended."""
    read = b""
    while b"\r\n\r\n" not in read:
        if not (more := connection.recv(65536)):
            return b""
        read += more
    head, _, body = read.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(*answers: bytes, keeping: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """Answer the requests of a connection with these, the last one for ever; `keeping` gets what was sent."""

    def behave(connection: socket.socket) -> None:
        left = deque(answers)
        while request := request_on(connection):
            if keeping is not None:
                keeping.append(request)
            connection.sendall(left.popleft() if len(left) > 1 else left[0])

    return behave


@contextmanager
def connects() -> Iterator[list[Any]]:
    """Every address that this process tries to connect to meanwhile, by whatever library."""
    _watched.append(seen := [])
    try:
        yield seen
    finally:
        _watched.remove(seen)


_watched: list[list[Any]] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        for seen in _watched:
            seen.append(args[1])


sys.addaudithook(_watch)


# --- names ----------------------------------------------------------------------------------------------------------
class NameServer:
    """
    A real one, over UDP. `zone["name"]` is a list of answers, given in turn and the last for ever; an answer is a list
    of addresses and aliases (`"-> other.example"`, followed here as a recursive server does). Times to live are 0.
    """

    def __init__(self, zone: dict[str, list[list[str]]]) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str]] = []
        self._turns: dict[tuple[str, str], int] = {}
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, sender = self.request
                if (answer := outer._answer(dns.message.from_wire(data))) is not None:
                    sender.sendto(answer.to_wire(), self.client_address)

        self._server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked_for(self, name: str) -> int:
        return sum(1 for asked, kind in self.asked if (asked, kind) == (name, "A"))

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        name = query.question[0].name.to_text().rstrip(".").lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append((name, kind))
        if name not in self.zone:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response
        for _ in range(8):
            turns = self.zone.get(name, [[]])
            turn = self._turns[name, kind] = self._turns.get((name, kind), -1) + 1
            told = turns[min(turn, len(turns) - 1)]
            if told == ["silence"]:
                return None
            aliases = [one.removeprefix("-> ") for one in told if one.startswith("-> ")]
            values = [one for one in told if ":" not in one] if kind == "A" else [one for one in told if ":" in one]
            if aliases:
                response.answer.append(dns.rrset.from_text(f"{name}.", 0, "IN", "CNAME", f"{aliases[0]}."))
                name = aliases[0]
                continue
            if values:
                response.answer.append(dns.rrset.from_text(f"{name}.", 0, "IN", kind, *values))
            break
        return response


# --- certificates ---------------------------------------------------------------------------------------------------
class Authority:
    """Signs certificates for tests, keeping them in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        now = datetime.now(UTC)
        self._certificate = self._signed(
            x509.CertificateBuilder()
            .subject_name(self._name)
            .public_key(self._key.public_key())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        )

    def trusted(self) -> ssl.SSLContext:
        pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def server(self, names: Iterable[str], *, expired: bool = False) -> ssl.SSLContext:
        """A server whose certificate is for these names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = datetime.now(UTC) + (timedelta(hours=-1) if expired else timedelta(days=1))
        certificate = self._signed(
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .public_key(key.public_key())
            .not_valid_before(until - timedelta(days=1, hours=1))
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
        )
        file = self._folder / f"{certificate.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            builder.issuer_name(self._name)
            .serial_number(x509.random_serial_number())
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
