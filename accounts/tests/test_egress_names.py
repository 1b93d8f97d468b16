import asyncio
import ssl
from pathlib import Path

import pytest

from accounts.events import destinations, egress, names
from accounts.tests import strangers
from accounts.tests.strangers import OK, Authority, NameServer, Receiver, answering

NAME = "in.receiver.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch):
    """Ports of this machine that a name may have, too."""
    return lambda *ports: monkeypatch.setattr(destinations, "PORTS", {443, 8443, *ports})


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, the name server of a test takes its time, too."""
    monkeypatch.setattr(egress, "CONNECT_SECONDS", 60.0)
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 30.0)
    monkeypatch.setattr(names, "SERVER_SECONDS", 10.0)


def posted(client: egress.Client, *urls: str) -> list[str]:
    """A status, or the word of a failure, for each, one after another."""

    async def post(url: str) -> str:
        try:
            return str((await client.post(url, headers={}, body=b"{}")).status)
        except (egress.Blocked, egress.Unreachable) as failure:
            return failure.word

    async def post_all() -> list[str]:
        async with client:
            return [await post(url) for url in urls]

    return asyncio.run(post_all())


class TestRebinding:
    """A name that leads to a public address when it is checked, and to us when it is used."""

    def test_the_address_that_was_checked_is_the_one_that_is_used(self, authority, settings, allow):
        with (
            strangers.Canary("127.0.0.1") as canary,
            Receiver(answering(OK), tls=authority.server([NAME]), address="127.0.0.2", port=canary.port) as receiver,
            NameServer({NAME: [["127.0.0.2"], ["127.0.0.1"]]}) as server,
        ):
            allow(canary.port)
            settings.EGRESS_NAMESERVERS = [server.address]
            client = strangers.client("127.0.0.2", trusting=authority.trusted())

            with strangers.connects() as seen:
                words = posted(client, *[receiver.url(NAME)] * 3)

            assert words == ["200"] * 3
            assert seen == [("127.0.0.2", canary.port)]
            assert server.asked_for(NAME) == 1
            assert receiver.names == [NAME]
            assert canary.silent()

    def test_each_connection_is_checked_anew(self, authority, settings, allow):
        once = answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        with (
            strangers.Canary("127.0.0.1") as canary,
            Receiver(once, tls=authority.server([NAME]), address="127.0.0.2", port=canary.port) as receiver,
            NameServer({NAME: [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2", "10.0.0.1"]]}) as server,
        ):
            allow(canary.port)
            settings.EGRESS_NAMESERVERS = [server.address]
            client = strangers.client("127.0.0.2", trusting=authority.trusted())

            words = posted(client, *[receiver.url(NAME)] * 4)

            assert words == ["200", "blocked_address", "200", "blocked_address"]
            assert receiver.connections == 2
            assert server.asked_for(NAME) == 4
            assert canary.silent()

    def test_a_minute_later_the_name_is_looked_up_again(self, authority, settings, allow, monkeypatch):
        monkeypatch.setattr(egress, "MAX_AGE_SECONDS", -1.0)
        with (
            strangers.Canary("127.0.0.1") as canary,
            Receiver(answering(OK), tls=authority.server([NAME]), address="127.0.0.2", port=canary.port) as receiver,
            NameServer({NAME: [["127.0.0.2"], ["127.0.0.1"]]}) as server,
        ):
            allow(canary.port)
            settings.EGRESS_NAMESERVERS = [server.address]
            client = strangers.client("127.0.0.2", trusting=authority.trusted())

            words = posted(client, *[receiver.url(NAME)] * 2)

            assert words == ["200", "blocked_address"]
            assert canary.silent()

    def test_no_connection_of_one_name_serves_another(self, authority, settings, allow):
        with (
            Receiver(answering(OK), tls=authority.server([NAME, "other.example"]), address="127.0.0.2") as receiver,
            NameServer({NAME: [["127.0.0.2"]], "other.example": [["127.0.0.2", "127.0.0.1"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]
            client = strangers.client("127.0.0.2", trusting=authority.trusted())

            words = posted(client, receiver.url(NAME), receiver.url("other.example"))

        assert words == ["200", "blocked_address"]
        assert receiver.connections == 1


class TestCertificate:
    """The address is pinned; the name is what the certificate must be for."""

    @pytest.mark.parametrize(
        ("certified", "word"),
        [
            ([NAME], "200"),
            (["*.receiver.example"], "200"),
            (["other.example", NAME], "200"),
            (["other.example"], "tls"),
            (["127.0.0.2"], "tls"),  # for the address, but not for the name
            (["*.in.receiver.example"], "tls"),
            (["receiver.example"], "tls"),
            ([f"{NAME}.evil.example"], "tls"),
        ],
    )
    def test_is_for_the_name(self, authority, settings, allow, certified, word):
        with (
            Receiver(answering(OK), tls=authority.server(certified), address="127.0.0.2") as receiver,
            NameServer({NAME: [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]

            words = posted(strangers.client("127.0.0.2", trusting=authority.trusted()), receiver.url(NAME))

        assert words == [word]
        assert receiver.names == [NAME]

    def test_is_for_the_name_at_the_end_of_no_alias(self, authority, settings, allow):
        with (
            Receiver(answering(OK), tls=authority.server(["host.example"]), address="127.0.0.2") as receiver,
            NameServer({NAME: [["-> host.example"]], "host.example": [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]
            client = strangers.client("127.0.0.2", trusting=authority.trusted())

            words = posted(client, receiver.url(NAME), receiver.url("host.example"))

        assert words == ["tls", "200"]

    def test_is_for_an_international_name_in_ascii(self, authority, settings, allow):
        ascii_name = "xn--bcher-kva.example"
        sent: list[bytes] = []
        with (
            Receiver(answering(OK, keeping=sent), tls=authority.server([ascii_name]), address="127.0.0.2") as receiver,
            NameServer({ascii_name: [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]

            words = posted(strangers.client("127.0.0.2", trusting=authority.trusted()), receiver.url("BÜCHER.example."))

        assert words == ["200"]
        assert receiver.names == [ascii_name]
        assert f"host: {ascii_name}:{receiver.port}\r\n".encode() in sent[0]

    def test_has_not_expired(self, authority, settings, allow):
        with (
            Receiver(answering(OK), tls=authority.server([NAME], expired=True), address="127.0.0.2") as receiver,
            NameServer({NAME: [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]

            words = posted(strangers.client("127.0.0.2", trusting=authority.trusted()), receiver.url(NAME))

        assert words == ["tls"]

    def test_is_signed_by_an_authority_that_this_machine_trusts(self, authority, settings, allow, tmp_path):
        stranger = Authority(tmp_path)
        with (
            Receiver(answering(OK), tls=stranger.server([NAME]), address="127.0.0.2") as receiver,
            NameServer({NAME: [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]

            words = posted(strangers.client("127.0.0.2", trusting=authority.trusted()), receiver.url(NAME))

        assert words == ["tls"]

    def test_no_setting_and_no_argument_loosens_it(self):
        context = egress.Client()._tls

        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2

    @pytest.mark.parametrize(
        "behave", [lambda connection: None, lambda connection: connection.sendall(b"HTTP/1.1 400\r\n")]
    )
    def test_one_that_speaks_no_tls(self, settings, allow, behave):
        with (
            Receiver(behave, address="127.0.0.2") as receiver,
            NameServer({NAME: [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]

            words = posted(strangers.client("127.0.0.2"), f"https://{NAME}:{receiver.port}/")

        assert words == ["tls"]

    def test_a_greeting_that_never_ends(self, settings, allow, monkeypatch):
        monkeypatch.setattr(egress, "CONNECT_SECONDS", 0.3)
        with (
            Receiver(
                lambda connection: connection.recv(1 << 16) and connection.recv(1), address="127.0.0.2"
            ) as receiver,
            NameServer({NAME: [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]

            words = posted(strangers.client("127.0.0.2"), f"https://{NAME}:{receiver.port}/")

        assert words == ["timeout"]


class TestNames:
    def test_the_next_address_is_tried_where_one_takes_no_connection(self, authority, settings, allow):
        with (
            Receiver(answering(OK), tls=authority.server([NAME]), address="127.0.0.3") as receiver,
            NameServer({NAME: [["127.0.0.2", "127.0.0.3", "::1"]]}) as server,
        ):
            allow(receiver.port)
            settings.EGRESS_NAMESERVERS = [server.address]
            client = strangers.client("127.0.0.2", "127.0.0.3", "::1", trusting=authority.trusted())

            assert posted(client, receiver.url(NAME)) == ["200"]

    def test_a_few_addresses_are_tried_and_no_more(self, settings, allow):
        many = [f"127.0.1.{number}" for number in range(1, 40)]
        with NameServer({NAME: [many]}) as server, strangers.Canary() as canary:
            port = canary.port
        with NameServer({NAME: [many]}) as server:
            allow(port)
            settings.EGRESS_NAMESERVERS = [server.address]
            with strangers.connects() as seen:
                words = posted(strangers.client(*many), f"https://{NAME}:{port}/")

        assert words == ["refused"]
        assert len(seen) == egress.MAX_ADDRESSES

    def test_a_name_server_that_says_nothing(self, settings, monkeypatch):
        monkeypatch.setattr(names, "LOOKUP_SECONDS", 0.3)
        with NameServer({NAME: [["silence"]]}) as server:
            settings.EGRESS_NAMESERVERS = [server.address]

            assert posted(egress.Client(), f"https://{NAME}/") == ["dns"]

    def test_the_next_name_server_is_asked(self, authority, settings, allow, monkeypatch):
        with (
            Receiver(answering(OK), tls=authority.server([NAME]), address="127.0.0.2") as receiver,
            NameServer({NAME: [["127.0.0.2"]]}) as server,
        ):
            allow(receiver.port)
            monkeypatch.setattr(names, "SERVER_SECONDS", 0.3)
            settings.EGRESS_NAMESERVERS = ["127.0.0.1:1", server.address]

            words = posted(strangers.client("127.0.0.2", trusting=authority.trusted()), receiver.url(NAME))

        assert words == ["200"]

    @pytest.mark.parametrize(
        ("written", "address", "port"),
        [
            ("192.0.2.1", "192.0.2.1", 53),
            ("192.0.2.1:5353", "192.0.2.1", 5353),
            ("2001:db8::1", "2001:db8::1", 53),
            ("[2001:db8::1]", "2001:db8::1", 53),
            ("[2001:db8::1]:5353", "2001:db8::1", 5353),
        ],
    )
    def test_servers_are_written_with_or_without_a_port(self, written, address, port):
        [server] = names.Names([written])._resolver.nameservers

        assert (server.address, server.port) == (address, port)

    def test_without_any_those_of_the_machine_are_asked(self):
        assert Path("/etc/resolv.conf").exists()
        assert names.Names([])._resolver.nameservers
