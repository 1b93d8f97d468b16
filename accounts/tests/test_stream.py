import asyncio
import json
import threading
import uuid
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from django.db import connections, transaction

from accounts import clock, tokens
from accounts.errors import TryLater
from accounts.events import feed, hub, log, places, seats, stream
from accounts.events.feed import Cursor, Told
from accounts.events.places import Place
from accounts.models import Agent
from accounts.tests.http import ApiClient


def tell(agent, name, kind="job.proposed"):
    log.record(kind, to=[agent.pk], data={"name": name}, at=clock.now())


def place_of(agent, *types, cursor=feed.START):
    return Place(agent.pk, types, cursor)


def told(number, name="x"):
    return Told(Cursor(1, 7, number), "job.proposed", {"name": name}, datetime(2026, 11, 21, tzinfo=UTC))


def all_readable(*agents_and_counts):
    """Wait until events are readable: transactions of other databases of the server hold them back, too."""
    for agent, count in agents_and_counts:
        for _ in range(1_000):
            if len(feed.read(agent.pk, limit=100)) >= count:
                break
            threading.Event().wait(0.02)


@pytest.mark.django_db(transaction=True)
class TestPlaces:
    def test_finds_who_has_news_of_the_types_they_asked_for(self, alice, bob):
        tell(alice, 1)
        tell(bob, 1, "job.funded")
        all_readable((alice, 1), (bob, 1))
        asked = [place_of(alice), place_of(alice, "job.funded"), place_of(bob, "job.funded", "job.settled")]

        found = places.look(asked)

        assert found.news == {0, 2}

    def test_reads_for_each_what_is_next_to_its_limit(self, alice, bob):
        for number in range(5):
            tell(alice, number)
            tell(bob, number, "job.funded")
        all_readable((alice, 5), (bob, 5))
        first = feed.read(alice.pk, limit=1)[0].cursor

        pages = places.read(
            [place_of(alice, cursor=first), place_of(bob, "job.started"), place_of(bob), place_of(alice)], limit=3
        )

        assert [[event.data["name"] for event in page] for page in pages] == [[1, 2, 3], [], [0, 1, 2], [0, 1, 2]]
        assert pages[3] == feed.read(alice.pk, limit=3)

    def test_now_is_behind_what_is_readable_and_before_what_is_not(self, alice):
        tell(alice, "old")
        all_readable((alice, 1))
        begun, may_end = threading.Event(), threading.Event()

        def write():
            with transaction.atomic():
                tell(alice, "open")
                begun.set()
                may_end.wait(4)
            connections.close_all()

        writer = threading.Thread(target=write)
        writer.start()
        begun.wait(10)
        now, until = places.now(), places.look([place_of(alice)]).until
        may_end.set()
        writer.join()
        all_readable((alice, 2))

        for cursor in (now, until):
            [page] = places.read([place_of(alice, cursor=cursor)], limit=10)
            assert [event.data["name"] for event in page] == ["open"]


class TestSeats:
    def test_are_taken_once_each_by_threads_at_once(self):
        free = seats.Seats(most=50, most_of_an_agent=5)
        agents = [uuid.uuid4() for _ in range(20)]
        barrier, refused = threading.Barrier(8), []

        def sit():
            barrier.wait()
            for agent in agents:
                try:
                    free.take(agent)
                except (seats.TooManyStreams, TryLater) as refusal:
                    refused.append(refusal.code)

        threads = [threading.Thread(target=sit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert free.taken() == 50
        assert len(refused) == 8 * 20 - 50

    def test_are_refused_to_the_agent_that_has_enough_before_anybody(self):
        free, agent = seats.Seats(most=2, most_of_an_agent=2), uuid.uuid4()
        free.take(agent)
        free.take(agent)

        with pytest.raises(seats.TooManyStreams):
            free.take(agent)
        with pytest.raises(TryLater):
            free.take(uuid.uuid4())

    def test_are_free_again_when_somebody_leaves_and_never_when_closed(self):
        free, agent = seats.Seats(most=1, most_of_an_agent=1), uuid.uuid4()
        free.take(agent)
        free.leave(agent)
        free.take(agent)
        free.leave(agent)
        free.closed = True

        with pytest.raises(TryLater):
            free.take(agent)


class TestFrame:
    def test_is_one_event_whatever_its_text(self):
        lines = stream.frame(told(3, "line\r\nid: 9.9.9\n\n\u2028 ü")).decode().split("\n")

        assert lines[:2] == ["id: 1.7.3", "event: job.proposed"]
        assert json.loads(lines[2].removeprefix("data: "))["data"]["name"] == "line\r\nid: 9.9.9\n\n\u2028 ü"
        assert lines[3:] == ["", ""]
        assert "\r" not in lines[2]


@asynccontextmanager
async def running(one, *, full=lambda one, more: None):
    task = asyncio.create_task(one.run(full))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, TimeoutError):
            await task


class TestStream:
    @pytest.fixture
    def asked(self):
        return stream.Asked(Place(uuid.uuid4(), (), feed.START), uuid.uuid4(), resumed=True)

    def test_beats_while_nothing_comes(self, asked, monkeypatch):
        monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.01)
        written = []

        async def play():
            async def write(data):
                written.append(data)

            async with running(hub.Stream(asked, write)):
                while len(written) < 4:
                    await asyncio.sleep(0.01)

        asyncio.run(asyncio.wait_for(play(), 10))
        assert written[0].startswith(b"retry: ")
        assert set(written[1:]) == {stream.HEARTBEAT}

    def test_drops_who_takes_nothing_and_keeps_its_place(self, asked, monkeypatch):
        monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.05)

        async def play():
            taken = []

            async def write(data):
                taken.append(data)
                if len(taken) > 1:
                    await asyncio.Event().wait()

            one = hub.Stream(asked, write)
            async with running(one) as task:
                one.give([told(1)])
                await asyncio.wait([task])
                assert isinstance(task.exception(), TimeoutError)
            assert one.place.cursor == feed.START

        asyncio.run(asyncio.wait_for(play(), 10))

    def test_asks_for_more_when_a_page_is_written(self, asked):
        more = []

        async def play():
            async def write(data):
                pass

            one = hub.Stream(asked, write)
            async with running(one, full=lambda _, full: more.append(full)):
                one.give([told(n) for n in range(hub.PAGE)])
                while not more:
                    await asyncio.sleep(0)
                one.give([told(99)])
                while len(more) < 2:
                    await asyncio.sleep(0)
            assert one.place.cursor.id == 99

        asyncio.run(asyncio.wait_for(play(), 10))
        assert more == [True, False]


@pytest.mark.django_db(transaction=True)
class TestThreaded:
    """The form of the web process, for trying it out."""

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch):
        monkeypatch.setattr(stream, "THREADED_SECONDS", 1.0)
        monkeypatch.setattr(stream, "THREADED_POLL_SECONDS", 0.02)
        monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.3)
        monkeypatch.setattr(stream, "THREADED", seats.Seats(most=2, most_of_an_agent=2))

    def test_tells_and_beats_and_ends(self, alice):
        client = ApiClient(tokens.mint(alice, scopes=["events:read"]).secret)
        tell(alice, "a")
        tell(alice, "b", "job.funded")
        all_readable((alice, 3))

        answer = client.get("/events/stream", after=str(feed.START), types="job.proposed,job.funded")
        content = b"".join(answer.streaming_content)

        listed = client.get("/events", types="job.proposed,job.funded").json()["data"]
        data = [line.removeprefix("data: ") for line in content.decode().split("\n") if line.startswith("data: ")]
        assert [json.loads(line) for line in data] == listed
        assert content.count(stream.HEARTBEAT) >= 2
        assert answer["Content-Type"] == "text/event-stream"

    def test_has_two_seats_which_are_free_again(self, alice):
        client = ApiClient(tokens.mint(alice).secret)
        first, second = client.get("/events/stream"), client.get("/events/stream")

        third = client.get("/events/stream")

        assert (third.status_code, third.json()["code"]) == (429, "too_many_streams")
        for answer in (first, second):
            b"".join(answer.streaming_content)
            answer.close()
        assert stream.THREADED.taken() == 0
        client.get("/events/stream").close()

    def test_ends_with_its_token(self, alice, monkeypatch):
        monkeypatch.setattr(stream, "THREADED_SECONDS", 60.0)
        monkeypatch.setattr(stream, "CHECK_SECONDS", 0.05)
        minted = tokens.mint(alice)
        answer = ApiClient(minted.secret).get("/events/stream")
        tokens.revoke(minted.token.pk, agent=alice)

        assert b"retry: " in b"".join(answer.streaming_content)

    def test_answers_who_asks_for_the_head_alone(self, alice):
        secret = tokens.mint(alice).secret

        answer = ApiClient().http.head("/v1/events/stream", headers={"Authorization": f"Bearer {secret}"})

        assert (answer.status_code, answer["Content-Type"], answer.streaming) == (200, "text/event-stream", False)


@pytest.mark.django_db
class TestStillGood:
    def test_is_a_token_that_could_open_a_stream(self, alice, bob, carol):
        good, revoked, leaving = tokens.mint(alice), tokens.mint(bob), tokens.mint(carol)
        tokens.revoke(revoked.token.pk, agent=bob)
        Agent.objects.filter(pk=carol.pk).update(status="leaving")

        asked = [good.token.pk, revoked.token.pk, leaving.token.pk, uuid.uuid4()]

        assert seats.still_good(asked) == {good.token.pk}
