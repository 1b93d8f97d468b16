import asyncio
import os
import socket
import struct
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import h11
import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from accounts.events import egress, wire
from accounts.tests import strangers
from accounts.tests.strangers import OK, Receiver, answering


def posted(
    url: str, *, times: int = 1, client: egress.Client | None = None, body: bytes = b"{}"
) -> list[egress.Answer]:
    """One after another, by one client."""

    async def post() -> list[egress.Answer]:
        async with client or egress.Client() as used:
            return [await used.post(url, headers={"webhook-id": "evt_1_2"}, body=body) for _ in range(times)]

    return asyncio.run(post())


def word_of(url: str, *, client: egress.Client | None = None) -> str:
    with pytest.raises((egress.Blocked, egress.Unreachable)) as refused:
        posted(url, client=client)
    return refused.value.word


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "TOTAL_SECONDS", 0.4)
    monkeypatch.setattr(egress, "CONNECT_SECONDS", 0.3)


class TestPost:
    def test_sends_the_body_and_the_headers(self):
        sent: list[bytes] = []
        with Receiver(answering(OK, keeping=sent)) as receiver:
            [answer] = posted(receiver.url(path="/a b".replace(" ", "%20") + "?c=é"), body='{"ü":1}'.encode())

        assert answer == egress.Answer(200, None)
        head, _, body = sent[0].partition(b"\r\n\r\n")
        assert body == '{"ü":1}'.encode()
        assert head.decode().split("\r\n") == [
            "POST /a%20b?c=%C3%A9 HTTP/1.1",
            f"host: 127.0.0.1:{receiver.port}",
            "user-agent: Bailee-Webhooks/1",
            "accept: */*",
            "accept-encoding: identity",
            "content-type: application/json",
            "webhook-id: evt_1_2",
            "content-length: 8",
        ]

    def test_sends_nothing_that_ends_a_line(self):
        async def post() -> None:
            async with egress.Client() as client:
                await client.post("http://127.0.0.1:1/", headers={"webhook-id": "1\r\nhost: other"}, body=b"{}")

        with pytest.raises(h11.LocalProtocolError):
            asyncio.run(post())

    @pytest.mark.parametrize("status", [200, 201, 204, 299, 304, 400, 404, 410, 429, 500, 503, 599])
    def test_tells_the_status(self, status):
        body = b"" if status in (204, 304) else b"Content-Length: 0\r\n"
        with Receiver(answering(b"HTTP/1.1 %d Something\r\n%s\r\n" % (status, body))) as receiver:
            answers = posted(receiver.url(), times=2)

        assert [answer.status for answer in answers] == [status, status]
        assert receiver.connections == 1

    def test_takes_an_interim_answer_for_none(self):
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        with Receiver(answering(interim + OK)) as receiver:
            assert posted(receiver.url()) == [egress.Answer(200, None)]

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_follows_no_redirect(self, status):
        with strangers.Canary() as canary:
            location = f"http://127.0.0.1:{canary.port}/"
            answer = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nRefresh: 0; {location}\r\n\r\n".encode()
            with Receiver(
                lambda connection: (strangers.request_on(connection), connection.sendall(answer))
            ) as receiver:
                answers = posted(receiver.url())

            assert canary.silent()
        assert answers == [egress.Answer(status, None)]

    def test_goes_past_the_proxies_of_the_environment(self, monkeypatch):
        with strangers.Canary() as canary, Receiver(answering(OK)) as receiver:
            for name in ["http_proxy", "https_proxy", "all_proxy"]:
                monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
                monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{canary.port}")
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)

            assert posted(receiver.url()) == [egress.Answer(200, None)]

            assert canary.silent()

    def test_brings_no_cookie_back(self):
        sent: list[bytes] = []
        crumbs = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
        with Receiver(answering(crumbs, keeping=sent)) as receiver:
            posted(receiver.url(), times=2)

        assert len(sent) == 2
        assert sent[0] == sent[1]

    def test_a_loopback_receiver_is_reached_in_the_local_stack_alone(self, settings):
        with Receiver(answering(OK)) as receiver:
            assert posted(receiver.url("localhost")) == [egress.Answer(200, None)]

            settings.EGRESS_LOOPBACK = False

            for host in ["localhost", "127.0.0.1"]:
                assert word_of(receiver.url(host)) == "bad_url"
        assert receiver.connections == 1


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            ("0", 0), ("120", 120), ("  7 ", 7), ("99999999999999999999", 604_800), ("604801", 604_800), ("-1", None),
            ("1.5", None), ("", None), ("soon", None), ("१२", None), ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
            ("Sat, 21 Nov 2026 11:00:00 GMT", 0), ("Sat, 99 Nov 2026 11:00:00 GMT", None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 604_800), ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ],
    )  # fmt: skip
    def test_is_read(self, said, seconds):
        answer = f"HTTP/1.1 429 Slow\r\nRetry-After: {said}\r\nContent-Length: 0\r\n\r\n".encode()
        with (
            time_machine.travel(datetime(2026, 11, 21, 12, 0, tzinfo=UTC), tick=False),
            Receiver(answering(answer)) as receiver,
        ):
            [told] = posted(receiver.url())

        assert told.retry_after_seconds == seconds

    def test_rounds_up(self):
        with time_machine.travel(datetime(2026, 11, 21, 12, 0, 0, 500_000, tzinfo=UTC), tick=False):
            until = format_datetime(datetime(2026, 11, 21, 12, 0, 2, tzinfo=UTC), usegmt=True)

            assert egress._seconds(until) == 2

    @given(st.text(max_size=60))
    def test_never_breaks_off(self, said):
        seconds = egress._seconds(said)

        assert seconds is None or 0 <= seconds <= 604_800


class TestReuse:
    def test_one_connection_carries_many(self):
        with Receiver(answering(OK)) as receiver:
            assert posted(receiver.url(), times=20) == [egress.Answer(200, None)] * 20

        assert receiver.connections == 1

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding:Chunked\r\n\r\n2;a=b\r\nok\r\n0a\r\n0123456789\r\n0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
            b"HTTP/1.1 200\r\nContent-Length: 4096\r\n\r\n" + bytes(4096),
        ],
    )
    def test_after_a_short_answer(self, answer):
        with Receiver(answering(answer)) as receiver:
            assert posted(receiver.url(), times=3) == [egress.Answer(int(answer[9:12]), None)] * 3

        assert receiver.connections == 1

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n" + bytes(4097),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n" + bytes(4097) + b"\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
            # more than was asked for: it could be read as the answer to the next
            OK + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            OK + b"x",
        ],
    )
    def test_not_after_another(self, answer):
        with Receiver(answering(answer)) as receiver:
            assert posted(receiver.url(), times=3) == [egress.Answer(200, None)] * 3

        assert receiver.connections == 3

    def test_not_after_words_that_came_unasked(self):
        """What a receiver says between two requests never answers the second."""
        answered, said = threading.Event(), threading.Event()

        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(OK)
            if not said.is_set():
                answered.wait(10)
                connection.sendall(b"HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n")
                said.set()
            strangers.request_on(connection)

        async def post_twice(url: str) -> list[int]:
            async with egress.Client() as client:
                first = await client.post(url, headers={}, body=b"{}")
                answered.set()
                while not said.is_set():
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
                second = await client.post(url, headers={}, body=b"{}")
                return [first.status, second.status]

        with Receiver(behave) as receiver:
            assert asyncio.run(post_twice(receiver.url())) == [200, 200]
        assert receiver.connections == 2

    def test_not_after_a_minute(self, monkeypatch):
        monkeypatch.setattr(egress, "MAX_AGE_SECONDS", -1.0)
        with Receiver(answering(OK)) as receiver:
            posted(receiver.url(), times=3)

        assert receiver.connections == 3

    def test_those_left_alone_are_closed_after_a_minute(self, monkeypatch):
        monkeypatch.setattr(egress, "MAX_AGE_SECONDS", 0.1)
        ended: list[bytes] = []

        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(OK)
            ended.append(connection.recv(1))

        async def post(url: str) -> None:
            async with egress.Client() as client:
                await client.post(url, headers={}, body=b"{}")
                for _ in range(500):
                    if ended:
                        break
                    await asyncio.sleep(0.01)
                assert ended
                assert client._idle_count == 0

        with Receiver(behave) as receiver:
            asyncio.run(post(receiver.url()))

    def test_one_that_was_closed_in_the_meantime_costs_no_attempt(self):
        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(OK)

        with Receiver(behave) as receiver:
            assert posted(receiver.url(), times=5) == [egress.Answer(200, None)] * 5

        assert receiver.connections == 5

    def test_as_many_as_are_allowed_are_kept(self, monkeypatch):
        monkeypatch.setattr(egress, "MAX_IDLE", 3)

        async def post(url: str) -> int:
            async with egress.Client() as client:
                await asyncio.gather(*[client.post(url, headers={}, body=b"{}") for _ in range(10)])
                return client._idle_count

        with Receiver(answering(OK)) as receiver:
            assert asyncio.run(post(receiver.url())) == 3


class TestFailures:
    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        assert word_of(f"http://127.0.0.1:{port}/") == "refused"

    def test_nobody_accepts(self, hurry):
        """A full queue of connections: the machine there says nothing at all."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))

            assert word_of(f"http://127.0.0.1:{port}/") == "timeout"

            for one in waiting:
                one.close()

    @pytest.mark.parametrize(
        "said",
        [
            b"", b"\r\n\r\n", b"200 OK\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 0200 OK\r\n\r\n",
            b"HTTP/1.1 20\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 \xb2\xb3\xb9 OK\r\n\r\n", b"-ERR unknown command\r\n", b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
        ],
    )  # fmt: skip
    def test_no_answer_of_http(self, said):
        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(said)

        with Receiver(behave) as receiver:
            assert word_of(receiver.url()) == "protocol"
            assert receiver.connections == 1

    def test_a_reset(self):
        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with Receiver(behave) as receiver:
            assert word_of(receiver.url()) == "protocol"

    def test_no_answer_at_all(self, hurry):
        with Receiver(
            lambda connection: connection.recv(1) and connection.recv(1 << 20) and connection.recv(1)
        ) as receiver:
            assert word_of(receiver.url()) == "timeout"

    def test_one_that_never_reads(self, hurry):
        over = []
        with Receiver(lambda connection: [time.sleep(0.01) for _ in range(200) if not over]) as receiver:
            with pytest.raises(egress.Unreachable) as refused:
                posted(receiver.url(), body=bytes(30_000_000))
            over.append(True)

        assert refused.value.word == "timeout"

    @pytest.mark.parametrize("piece", [b"H", b"x: y\r\n"])
    def test_headers_that_drip_for_ever(self, hurry, piece):
        """Each piece comes in time; the whole does not."""

        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(piece)
                time.sleep(0.02)

        with Receiver(behave) as receiver:
            assert word_of(receiver.url()) == "timeout"

    def test_headers_without_end(self):
        sent = []

        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                sent.append(connection.send(b"x: yyyyyyyyyyyyy\r\n" * 1000))

        with Receiver(behave) as receiver:
            assert word_of(receiver.url()) == "protocol"

    def test_of_a_gigabyte_a_few_kilobytes_are_read(self, monkeypatch):
        read: list[int] = []
        updated = wire.Wire.buffer_updated
        monkeypatch.setattr(
            wire.Wire, "buffer_updated", lambda self, length: read.append(length) or updated(self, length)
        )
        sent = [0]

        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
            while sent[0] < 1 << 30:
                sent[0] += connection.send(bytes(65536))

        with Receiver(behave) as receiver:
            assert posted(receiver.url()) == [egress.Answer(200, None)]

        assert sum(read) <= 8192
        assert sent[0] < 1 << 26  # what the buffers of two sockets hold

    @pytest.mark.parametrize(
        "head",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ],
    )
    def test_a_body_that_drips_changes_nothing(self, monkeypatch, head):
        """The status was told; the rest is not waited for."""
        monkeypatch.setattr(wire, "DRAIN_SECONDS", 0.1)

        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(head)
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

        with Receiver(behave) as receiver:
            assert posted(receiver.url(), times=2) == [egress.Answer(200, None)] * 2

        assert receiver.connections == 2

    def test_a_compressed_body_stays_compressed(self):
        """Nothing is decoded, so a bomb has nowhere to go off."""
        with Receiver(
            answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nx\0\xff!")
        ) as receiver:
            assert posted(receiver.url()) == [egress.Answer(200, None)]

    def test_one_slow_receiver_holds_up_no_other(self):
        over: list[bool] = []
        slow = Receiver(lambda connection: [time.sleep(0.01) for _ in range(1000) if not over])

        async def post(slow_url: str, url: str) -> list[int]:
            async with egress.Client() as client:
                waiting = [asyncio.create_task(client.post(slow_url, headers={}, body=b"{}")) for _ in range(50)]
                answers = [await client.post(url, headers={}, body=b"{}") for _ in range(50)]
                for one in waiting:
                    one.cancel()
                assert {type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)} == {
                    asyncio.CancelledError
                }
                return [answer.status for answer in answers]

        with slow, Receiver(answering(OK)) as fast:
            statuses = asyncio.run(post(slow.url(), fast.url()))
            over.append(True)

        assert statuses == [200] * 50

    def test_leaves_no_socket_behind(self, hurry):
        def behave(connection: socket.socket) -> None:
            strangers.request_on(connection)
            connection.sendall(b"nonsense\r\n\r\n")

        async def post(url: str) -> int:
            async with egress.Client() as client:
                before = len(os.listdir("/proc/self/fd"))
                for _ in range(5):
                    for target in [url, "http://127.0.0.1:1/", url.replace("http:", "https:")]:
                        with pytest.raises(egress.Unreachable):
                            await client.post(target, headers={}, body=b"{}")
                await asyncio.sleep(0)
                return len(os.listdir("/proc/self/fd")) - before

        with Receiver(lambda connection: behave(connection)) as receiver:
            assert asyncio.run(post(receiver.url())) <= 2  # the receiver's own ends, at most


class TestParsing:
    @given(st.binary(max_size=200))
    def test_whatever_is_said_it_is_an_answer_or_none(self, said):
        async def read() -> None:
            made = wire.Wire()
            ours, theirs = socket.socketpair()
            await asyncio.get_running_loop().create_connection(lambda: made, sock=ours)
            theirs.sendall(b"HTTP/1.1 " + said)
            theirs.close()
            try:
                head = await made.post(h11.Request(method="POST", target="/", headers=[("host", "x")]), b"")
                assert 200 <= head.status < 1000
            except wire.Broken:
                pass
            finally:
                made.close()

        asyncio.run(read())
