"""The `stream` process as clients meet it: a real server, killed and stopped, and events that go on being written."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.conf import settings
from django.db import connections, transaction

from accounts import clock, tokens
from accounts.events import feed, log
from accounts.models import Agent, Token
from accounts.tests.http import ApiClient
from config.devstack import ports
from config.tests.streams import Listener, Server, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
START = str(feed.START)


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("stream") / "log")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_server(django_db_setup: None, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers = []

    def own_server(**env: str) -> Server:
        servers.append(Server(tmp_path / "log", **env))
        servers[-1].start()
        return servers[-1]

    yield own_server
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def secret(alice: Agent) -> str:
    return tokens.mint(alice).secret


def tell(agent: Agent, name: Any, kind: str = "job.proposed") -> None:
    log.record(kind, to=[agent.pk], data={"name": name}, at=clock.now())


def names(heard: list[Any]) -> list[Any]:
    return [json.loads(event.data)["data"].get("name") for event in heard]


class TestStream:
    def test_tells_what_happens_as_the_list_does(self, server: Server, alice: Agent, secret: str) -> None:
        with Listener(server.url, secret, after=START) as listener:
            assert listener.answer.headers["content-type"] == "text/event-stream"
            assert listener.answer.headers["cache-control"] == "no-cache"
            assert listener.answer.headers["x-accel-buffering"] == "no"
            for name in range(5):
                tell(alice, name)
            heard = listener.take(6)

        listed = ApiClient(secret).get("/events").json()["data"]
        assert [json.loads(event.data) for event in heard] == listed
        assert [(event.id, event.type) for event in heard] == [(one["cursor"], one["type"]) for one in listed]
        assert names(heard)[1:] == [0, 1, 2, 3, 4]
        assert 1_000 <= listener.retry <= 2_000

    def test_begins_with_what_is_new_and_says_where_that_is(self, server: Server, alice: Agent, secret: str) -> None:
        tell(alice, "old")
        _until_readable(alice, 2)
        with Listener(server.url, secret, types="job.proposed") as listener:
            tell(alice, "new")
            assert names(listener.take(1)) == ["new"]
        with Listener(server.url, secret, types="job.proposed") as other:
            place = next(line for line in other.lines if line.startswith("id: ")).removeprefix("id: ")
        tell(alice, "newer")

        with Listener(server.url, secret, last=place, types="job.proposed") as again:
            assert names(again.take(1)) == ["newer"]

    def test_resumes_behind_the_last_event_whatever_the_address_says(
        self, server: Server, alice: Agent, secret: str
    ) -> None:
        for name in "abcd":
            tell(alice, name)
        with Listener(server.url, secret, after=START) as listener:
            heard = listener.take(5)

        with Listener(server.url, secret, last=heard[2].id, after=START) as again:
            assert names(again.take(2)) == ["c", "d"]

    def test_tells_only_the_types_that_were_asked_for(self, server: Server, alice: Agent, secret: str) -> None:
        with Listener(server.url, secret, after=START, types="job.funded,job.settled") as listener:
            for kind in ("job.funded", "job.started", "job.settled", "job.proposed"):
                tell(alice, kind, kind)
            assert [event.type for event in listener.take(2)] == ["job.funded", "job.settled"]
            tell(alice, "last", "job.settled")
            assert names(listener.take(1)) == ["last"]

    def test_tells_each_stream_of_an_agent_and_nobody_else(
        self, server: Server, alice: Agent, bob: Agent, secret: str
    ) -> None:
        strange = tokens.mint(bob).secret
        with (
            Listener(server.url, secret, types="job.proposed") as one,
            Listener(server.url, secret, types="job.proposed") as other,
            Listener(server.url, strange, types="job.proposed") as stranger,
        ):
            tell(alice, "for alice")
            tell(bob, "for bob")
            assert names(one.take(1)) == names(other.take(1)) == ["for alice"]
            assert names(stranger.take(1)) == ["for bob"]

    def test_passes_over_nothing_that_is_committed_late(self, server: Server, alice: Agent, secret: str) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def write_late() -> None:
            with transaction.atomic():
                tell(alice, "late")
                begun.set()
                may_end.wait(4)
            connections.close_all()

        with Listener(server.url, secret, types="job.proposed") as listener:
            writer = threading.Thread(target=write_late)
            writer.start()
            assert begun.wait(10)
            tell(alice, "early")
            time.sleep(1.5)  # at least one poll looks meanwhile
            may_end.set()
            writer.join()
            heard = listener.take(2)

        assert names(heard) == ["late", "early"]

    def test_reads_a_backlog_to_its_end(self, server: Server, alice: Agent, secret: str) -> None:
        with transaction.atomic():
            for name in range(250):
                tell(alice, name)

        with Listener(server.url, secret, after=START, types="job.proposed") as listener:
            assert names(listener.take(250)) == list(range(250))


class TestRefusal:
    @pytest.mark.parametrize(
        ("headers", "query", "status", "code"),
        [
            ({"Authorization": ""}, {}, 401, "unauthenticated"),
            ({"Authorization": "Bearer blt_test_no"}, {}, 401, "unauthenticated"),
            ({"Last-Event-ID": "7"}, {}, 400, "invalid_request"),
            ({"Last-Event-ID": "1.2.3; DROP"}, {"after": START}, 400, "invalid_request"),
            ({}, {"after": "yesterday"}, 400, "invalid_request"),
            ({}, {"types": ",".join(f"a.b{n}" for n in range(51))}, 400, "invalid_request"),
        ],
    )
    def test_comes_before_the_stream(
        self, server: Server, secret: str, headers: dict[str, str], query: dict[str, str], status: int, code: str
    ) -> None:
        headers = {"Authorization": f"Bearer {secret}"} | headers
        answer = httpx2.get(server.url, headers={name: value for name, value in headers.items() if value}, params=query)

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]

    def test_is_that_of_the_token(self, server: Server, alice: Agent, bob: Agent) -> None:
        over, elsewhere, narrow, leaving = (
            tokens.mint(alice),
            tokens.mint(alice, allowed_networks=["203.0.113.0/24"]),
            tokens.mint(alice, scopes=["jobs:read"]),
            tokens.mint(bob),
        )
        at = clock.now()
        Token.objects.filter(pk=over.token.pk).update(created_at=at - timedelta(2), expires_at=at - timedelta(1))
        Agent.objects.filter(pk=bob.pk).update(status="leaving")

        def code(minted: tokens.Minted) -> Any:
            answer = httpx2.get(server.url, headers={"Authorization": f"Bearer {minted.secret}"})
            return answer.status_code, answer.json()["code"]

        assert code(over) == code(elsewhere) == (401, "unauthenticated")
        assert code(narrow) == code(leaving) == (403, "scope_missing")

    def test_is_for_the_stream_after_the_twentieth_of_an_agent(self, server: Server, bob: Agent) -> None:
        secret = tokens.mint(bob).secret
        listeners = [Listener(server.url, secret) for _ in range(20)]
        try:
            answer = httpx2.get(server.url, headers={"Authorization": f"Bearer {secret}"})
        finally:
            for listener in listeners:
                listener.close()

        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
        assert answer.headers["retry-after"] == "10"
        give_up = time.monotonic() + 20
        while True:  # what was closed is free again
            with Listener(server.url, secret) as again:
                if again.answer.status_code == 200:
                    break
            assert time.monotonic() < give_up

    def test_is_for_everything_else(self, server: Server) -> None:
        for path in ("/v1/jobs", "/admin/", "/"):
            answer = httpx2.get(server.url.replace("/v1/events/stream", path))

            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert httpx2.get(server.url.replace("/v1/events/stream", "/healthz")).status_code == 200


class TestToken:
    """Whoever may not ask any more is not told any more."""

    @pytest.mark.parametrize("how", ["revoked", "rotated", "over", "leaving"])
    def test_ends_its_streams(self, server: Server, alice: Agent, how: str) -> None:
        minted, kept = tokens.mint(alice), tokens.mint(alice)
        with Listener(server.url, minted.secret) as listener, Listener(server.url, kept.secret) as other:
            if how == "revoked":
                tokens.revoke(minted.token.pk, agent=alice)
            elif how == "rotated":
                tokens.rotate(minted.token.pk, by=minted.token, overlap_seconds=0)
            elif how == "over":
                Token.objects.filter(pk=minted.token.pk).update(expires_at=clock.now() + timedelta(seconds=1))
            else:
                Agent.objects.filter(pk=alice.pk).update(status="leaving")

            for _ in listener.events():  # up to its end: a read that waits for 40 s would raise
                pass
            if how != "leaving":
                tell(alice, "for the other token", "job.funded")
                assert any(event.type == "job.funded" for event in other.events())


class TestDeath:
    """A client that resumes by `Last-Event-ID` gets each event once and in order, whatever the server does."""

    def test_loses_and_repeats_nothing(self, own_server: Callable[..., Server], alice: Agent, secret: str) -> None:
        writers, each, server = 8, 40, own_server()
        heard: list[Any] = []
        done = threading.Event()

        def write(writer: int) -> None:
            for number in range(each):
                with transaction.atomic():
                    tell(alice, f"{writer}:{number}")
                    time.sleep(0.01 * (writer % 3))
                time.sleep(0.02)
            connections.close_all()

        def listen() -> None:
            last = START
            while len(heard) < writers * each and not done.is_set():
                with suppress(httpx2.HTTPError), Listener(server.url, secret, last=last, types="job.proposed") as one:
                    for event in one.events():
                        heard.append(event)
                        last = event.id
                        if len(heard) == writers * each:
                            return
                time.sleep(0.1)

        threads = [threading.Thread(target=write, args=[writer]) for writer in range(writers)]
        listener = threading.Thread(target=listen)
        for thread in [listener, *threads]:
            thread.start()
        for _ in range(2):
            time.sleep(0.7)
            server.kill()
            server.start()
        for thread in threads:
            thread.join()
        listener.join(30)
        done.set()

        assert [event.id for event in heard] == [str(told.cursor) for told in _all_of(alice)]
        assert len(set(names(heard))) == len(heard) == writers * each

    def test_by_term_ends_every_stream_in_good_order(
        self, own_server: Callable[..., Server], alice: Agent, secret: str
    ) -> None:
        server = own_server()
        with (
            Listener(server.url, secret, types="job.proposed") as one,
            Listener(server.url, secret, types="job.funded") as other,
        ):
            tell(alice, "before")
            assert names(one.take(1)) == ["before"]

            took = server.stop()
            rest = [list(listener.events()) for listener in (one, other)]  # ends, and does not break off

        assert took < 8
        assert rest == [[], []]
        tell(alice, "meanwhile")
        server.start()
        with Listener(server.url, secret, last=one.last) as again:
            assert names(again.take(1)) == ["meanwhile"]


class TestWithoutRedis:
    def test_events_arrive_by_the_poll(self, own_server: Callable[..., Server], alice: Agent, secret: str) -> None:
        server = own_server(REDIS_URL=f"redis://127.0.0.1:{ports.any_free()}/0")

        with Listener(server.url, secret, types="job.proposed") as listener:
            for name in range(3):
                tell(alice, name)
                assert names(listener.take(1)) == [name]


class TestDocument:
    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    def test_shows_a_command_that_works(self, server: Server, alice: Agent, secret: str) -> None:
        page = (settings.BASE_DIR / "docs" / "stream.md").read_text()
        command = page.partition("```sh\n")[2].partition("```")[0]
        env = {**os.environ, "TOKEN": secret, "STREAM_URL": server.url.removesuffix("/v1/events/stream")}
        tell(alice, "shown")

        with subprocess.Popen(["sh", "-c", f"exec {command}"], env=env, stdout=subprocess.PIPE, text=True) as curl:
            try:
                data = next(line for line in curl.stdout if line.startswith("data: "))
            finally:
                curl.terminate()

        assert json.loads(data.removeprefix("data: "))["data"]["name"] == "shown"


def _until_readable(agent: Agent, count: int) -> None:
    # Transactions of other databases of the server hold the feed back, too.
    wait_for(lambda: len(feed.read(agent.pk, limit=100)) >= count, seconds=60)


def _all_of(agent: Agent) -> list[feed.Told]:
    return feed.read(agent.pk, types=["job.proposed"], limit=10_000)
