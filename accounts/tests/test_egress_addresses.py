import asyncio
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.errors import Invalid
from accounts.events import addresses, destinations, egress, names
from accounts.tests import strangers

# Written so that some parser or other reads an address of ours, or a way around the rules.
FORMS = [
    # 127.0.0.1
    "127.0.0.1", "127.0.0.1.", "127.0.0.2", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1",
    "017700000001", "0177.0.0.1", "0177.0.0.01", "127.1", "127.0.1", "127.00.00.01", "127.0.0.0x1", "0x7F.0.0.1",
    "00000177.0.0.1", "4294967296", "340282366920938463463374607431768211457", "127.0.0.1%20", "%31%32%37.0.0.1",
    "１２７.０.０.１", "127。0。0。1", "127｡0．0.1", "①②⑦.⓪.⓪.①", "٠.٠.٠.٠", "1𝟮7.0.0.1", "ⓛocalhost",
    "localhost", "LOCALHOST", "localhost.", "0", "0.0.0.0", "0.0.0.1", "",  # noqa: S104
    # what only reads it inside brackets
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::127.0.0.1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:0:127.0.0.1]", "[::1%25lo]",
    "[::1%lo]", "[fe80::1%25eth0]", "[fe80::1]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[fd20:ce::254]",
    "[ff02::1]", "[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::7f00:1]", "[64:ff9b:1:fffe::a00:1]",
    "[2002:7f00:1::1]", "[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[2001:10::1]", "[2001:20::1]", "[2001:2::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]", "[5f00::1]",
    "[2a00:1450::5efe:127.0.0.1]", "[2a00:1450::200:5efe:10.0.0.1]", "[2620:4f:8000::1]", "[::ffff:0:0]", "[v1.x]",
    "[127.0.0.1]", "[::1", "::1", "[::1]x", "[]",
    # private, shared, special
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.1", "192.0.0.192", "192.0.2.1",
    "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "0xA9FEA9FE", "2852039166",
    "0251.0376.0251.0376", "0xa9.0xfe.0xa9.0xfe", "169.254.43518", "425.510.425.510", "10.1", "1.1.1.1.1", "256.1.1.1",
    # user information and the like in front
    "user@127.0.0.1", "1.1.1.1@127.0.0.1", "user:word@receiver.example", "127.0.0.1\\@receiver.example",
    "receiver.example\\@127.0.0.1", "receiver.example#@127.0.0.1", "receiver.example%00.127.0.0.1", "receiver.example@",
    "127.0.0.1\t", "\n127.0.0.1", "receiver.example\r\nHost: 127.0.0.1", "re ceiver.example", "1.1.1.1:80:127.0.0.1",
    # no names of hosts
    "metadata", "postgres", "-receiver.example", "receiver-.example", "receiver..example", ".receiver.example",
    "receiver.example..", "receiver." + "a" * 64, ".".join(["abcdefgh"] * 29), "re/ceiver@127.0.0.1:99/", "xn--a\u0301",
    "receiver,example", "receiver!.example", "receiver.0x7f", "receiver.1",
]  # fmt: skip

URLS = [
    "http://receiver.example/", "http://receiver.example:443/", "http://receiver.example:8443/",
    "ftp://receiver.example/", "//receiver.example/", "receiver.example", "",
    "https:receiver.example", "https:/receiver.example", "https:///receiver.example", "javascript:alert(1)",
    "file:///etc/passwd", "gopher://127.0.0.1/", "https://receiver.example/#here", "https://receiver.example#",
    "https://receiver.example:80/", "https://receiver.example:22/", "https://receiver.example:0/",
    "https://receiver.example:65979/", "https://receiver.example:-443/", "https://receiver.example:/",
    "https://receiver.example:４４３/", "https://receiver.example:0443x/", "https://receiver.example: 443/",
    "https://receiver.example/" + "a" * 2048, "https://receiver.example/a b", "https://receiver.example/\ud800",
    "https://receiver.example/\x00", "https://receiver.example/\\..\\", " https://receiver.example/",
]  # fmt: skip

GOOD_URLS = [
    "https://receiver.example", "https://receiver.example:443/", "HTTPS://Receiver.Example.:8443/a?b=c&d",
    "https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC", "https://my_app.receiver.example/",
    "https://1.1.1.1/", "https://[2606:4700:4700::1111]/", "https://receiver.example/a@b:c/../d;e,f~!$'()*",
    "https://receiver.example?to=127.0.0.1", "https://1.1.1.1.example/", "https://0x7f.receiver.example/",
]  # fmt: skip

# Where names may not lead, whatever else they lead to.
ANSWERS = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.0.0.53",  # noqa: S104
    "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.17.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::127.0.0.1", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1",
    "2002:a00:1::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1",
    "fec0::1", "ff02::1", "2a00:1450::5efe:127.0.0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def listening() -> Iterator[strangers.Canary]:
    with strangers.Canary() as canary:
        yield canary


@pytest.fixture
def canary(listening: strangers.Canary, monkeypatch: pytest.MonkeyPatch) -> strangers.Canary:
    """Nobody comes, though its port is allowed."""
    monkeypatch.setattr(destinations, "PORTS", {443, 8443, listening.port})
    listening.visits = 0
    return listening


@pytest.fixture(autouse=True)
def _as_in_production(settings) -> None:
    settings.EGRESS_LOOPBACK = False


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, the name server of a test takes its time, too."""
    monkeypatch.setattr(egress, "CONNECT_SECONDS", 60.0)
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 30.0)
    monkeypatch.setattr(names, "SERVER_SECONDS", 10.0)


def words_of(client: egress.Client, urls: Iterable[str]) -> list[str]:
    """Why each was not reached."""

    few = asyncio.Semaphore(8)

    async def post(url: str) -> str:
        async with few:
            with pytest.raises((egress.Blocked, egress.Unreachable)) as refused:
                await client.post(url, headers={}, body=b"{}")
        return refused.value.word

    async def post_all() -> list[str]:
        async with client:
            return await asyncio.gather(*[post(url) for url in urls])

    return asyncio.run(post_all())


class TestForms:
    def test_there_are_enough(self):
        assert len(set(FORMS)) == len(FORMS) >= 60

    def test_nothing_is_looked_up_or_connected_to(self, canary, settings):
        urls = [f"https://{form}:{canary.port}/hook" for form in FORMS]
        with strangers.NameServer({}) as server:
            settings.EGRESS_NAMESERVERS = [server.address]
            with strangers.connects() as seen:
                words = words_of(egress.Client(), urls)

        assert set(words) == {"bad_url", "blocked_address"}
        assert seen == []
        assert server.asked == []
        assert canary.silent()

    @pytest.mark.parametrize("url", ["https://{}/hook", "https://{}", "https://{}:8443/?a=b", "http://{}/"])
    def test_are_refused_when_registered(self, url):
        for form in FORMS:
            with pytest.raises(Invalid) as refused:
                egress.check(url.format(form))

            [error] = refused.value.errors
            assert error.pointer == "/url", form
            assert error.code in {"bad_url", "blocked_address"}, form

    @pytest.mark.parametrize("url", URLS)
    def test_other_bad_urls_are_refused_when_registered(self, url):
        with pytest.raises(Invalid):
            egress.check(url)

    @pytest.mark.parametrize("url", GOOD_URLS)
    def test_public_ones_are_taken(self, url):
        egress.check(url)

    def test_the_canary_does_sing(self, canary, settings):
        """Else the other tests would prove nothing."""
        zone = {"here.example": [["127.0.0.1"]], "six.example": [["::1"]], "mapped.example": [["::ffff:127.0.0.1"]]}
        with strangers.NameServer(zone) as server:
            settings.EGRESS_NAMESERVERS = [server.address]
            lenient = strangers.client("127.0.0.1", "::1", "::ffff:127.0.0.1")

            words = words_of(lenient, [f"https://{name}:{canary.port}/" for name in zone])

        assert words == ["tls"] * 3
        assert not canary.silent()
        assert canary.visits == 3


class TestAnswers:
    def test_a_name_that_leads_there_is_not_followed(self, canary, settings):
        """Alone, before and after good ones, in the other family, and at the end of aliases."""
        zone: dict[str, list[list[str]]] = {}
        for number, answer in enumerate(ANSWERS):
            zone |= {
                f"alone.{number}.example": [[answer]],
                f"first.{number}.example": [[answer, "127.0.0.8", "127.0.0.9"]],
                f"last.{number}.example": [["127.0.0.8", "127.0.0.9", answer]],
                f"other.{number}.example": [["127.0.0.9" if ":" in answer else "2001:4860::1", answer]],
                f"alias.{number}.example": [[f"-> another.{number}.example"]],
                f"another.{number}.example": [[f"-> alone.{number}.example"]],
            }
        with strangers.NameServer(zone) as server:
            settings.EGRESS_NAMESERVERS = [server.address]
            lenient = strangers.client("127.0.0.8", "127.0.0.9")
            with strangers.connects() as seen:
                words = words_of(lenient, [f"https://{name}:{canary.port}/hook" for name in zone])

        assert dict(zip(zone, words, strict=True)) == dict.fromkeys(zone, "blocked_address")
        assert seen == []
        assert canary.silent()

    def test_names_inside_clouds_are_not_followed(self, canary, settings):
        zone = {name: [["169.254.169.254", "fd00:ec2::254"]] for name in CLOUD_NAMES}
        with strangers.NameServer(zone) as server:
            settings.EGRESS_NAMESERVERS = [server.address]

            words = words_of(egress.Client(), [f"https://{name}.:{canary.port}/hook" for name in zone])

        assert words == ["blocked_address"] * len(zone)
        assert canary.silent()

    def test_a_name_that_leads_nowhere(self, canary, settings):
        zone = {"empty.example": [[]], "circle.example": [["-> circle.example"]]}
        with strangers.NameServer(zone) as server:
            settings.EGRESS_NAMESERVERS = [server.address]

            words = words_of(egress.Client(), [f"https://{name}/" for name in [*zone, "nobody.example"]])

        assert words == ["dns"] * 3

    def test_names_known_to_this_machine_alone_lead_nowhere(self, canary, settings):
        own = socket.gethostname()
        with strangers.NameServer({}) as server:
            settings.EGRESS_NAMESERVERS = [server.address]

            words = words_of(egress.Client(), [f"https://{own}.x:{canary.port}/", f"https://{own}:{canary.port}/"])

        assert words == ["dns", "bad_url"]
        assert {name for name, _ in server.asked} == {f"{own.lower()}.x"}
        assert canary.silent()


CLOUD_NAMES = [
    "metadata.google.internal", "metadata.azure.internal", "instance-data.ec2.internal", "127.0.0.1.nip.example",
    "localhost.localdomain", "foo.localhost", "kubernetes.default.svc", "host.docker.internal",
]  # fmt: skip


class TestPublic:
    """Against the registries' other face: what is public, written down apart from what is blocked."""

    def test_known_public_addresses_are(self):
        known = [
            "1.1.1.1",
            "8.8.8.8",
            "9.9.9.9",
            "104.16.0.1",
            "2606:4700::1",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
        ]

        assert [address for address in known if not addresses.is_public(ip_address(address))] == []

    @given(st.ip_addresses(v=4))
    def test_of_ipv4(self, address):
        number = int(address)
        special = any(number >> (32 - length) == prefix >> (32 - length) for prefix, length in SPECIAL_4)

        assert addresses.is_public(address) is (not special)

    @given(
        st.one_of(
            st.ip_addresses(v=6),
            st.integers(0, 2**125 - 1).map(lambda rest: IPv6Address(1 << 125 | rest)),
            st.integers(0, 2**112 - 1).map(lambda rest: IPv6Address(0x2001 << 112 | rest)),
        )
    )
    def test_of_ipv6(self, address):
        number = int(address)
        special = any(number >> (128 - length) == prefix >> (128 - length) for prefix, length in SPECIAL_6)
        isatap = f"{number >> 32 & 0xFFFFFFFF:08x}" in {"00005efe", "02005efe"}

        assert addresses.is_public(address) is (number >> 125 == 1 and not special and not isatap)

    @given(st.ip_addresses(v=4), st.sampled_from([0, 0xFFFF << 32, 0x64FF9B << 96, 0x64FF9B0001 << 80, 0xFFFF << 48]))
    def test_an_address_inside_another_is_never_public(self, inner, prefix):
        assert not addresses.is_public(IPv6Address(prefix | int(inner)))
        assert not addresses.is_public(IPv6Address(0x2002 << 112 | int(inner) << 80 | 1))
        assert not addresses.is_public(IPv6Address(0x20010000 << 96 | int(inner)))

    @given(st.ip_addresses())
    def test_what_python_takes_for_special_is_never_public(self, address):
        if not address.is_global or address.is_multicast or address.is_reserved:
            assert not addresses.is_public(address)

    @given(st.ip_addresses(v=6), st.sampled_from(["eth0", "lo", "1"]))
    def test_an_address_with_a_zone_is_never_public(self, address, zone):
        assert not addresses.is_public(IPv6Address(f"{address}%{zone}"))


def _network(text: str) -> tuple[int, int]:
    address, _, length = text.partition("/")
    return int(ip_address(address)), int(length)


# IANA's special-purpose registries as of 2026 and multicast, merged where networks touch.
SPECIAL_4 = [
    _network(text)
    for text in [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    ]
]  # fmt: skip
SPECIAL_6 = [_network(text) for text in ["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"]]
