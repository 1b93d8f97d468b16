import asyncio
import json
import os
import socket
import time

import pytest
import redis
from django.conf import settings
from django.db import connection, transaction

from accounts import clock, ids
from accounts.events import doorbell, log

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _not_silent(monkeypatch):
    monkeypatch.setattr(doorbell, "_silent_until", 0.0)


@pytest.fixture
def heard():
    """
    Everything that rang for agents of this test: `heard(alice, bob)`. The channel is one for all tests of this Redis.

    What is published after the test's own rings comes after them, so that a mark tells that all of them were heard.
    """
    client = redis.Redis.from_url(settings.REDIS_URL)
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(doorbell.CHANNEL)
    while not subscription.subscribed or subscription.get_message(timeout=0.05) is not None:
        pass

    def heard(*agents):
        mark = str(ids.uuid7())
        client.publish(doorbell.CHANNEL, json.dumps([mark]))
        rung, ours = [], {str(agent.pk) for agent in agents}
        while (told := _next(subscription)) != [mark]:
            if ours & set(told):
                rung.append(told)
        return rung

    yield heard
    subscription.close()
    client.close()


def _next(subscription):
    while True:
        message = subscription.get_message(timeout=5)
        if message is not None:
            return json.loads(message["data"])


def tell(*agents):
    log.record("job.proposed", to=[agent.pk for agent in agents], data={}, at=clock.now())


def tell_and_take_back(agent):
    with transaction.atomic():
        tell(agent)
        transaction.set_rollback(True)


def ids_of(*agents):
    return sorted(str(agent.pk) for agent in agents)


class TestRing:
    def test_rings_after_the_commit_and_not_before(self, alice, heard):
        with transaction.atomic():
            tell(alice)
            before = heard(alice)

        assert before == []
        assert heard(alice) == [ids_of(alice)]

    def test_rings_once_for_all_that_one_transaction_records(self, alice, bob, carol, heard):
        with transaction.atomic():
            tell(alice, bob)
            with transaction.atomic():
                tell(alice)
                with transaction.atomic():
                    tell(carol)

        assert heard(alice, bob, carol) == [ids_of(alice, bob, carol)]

    def test_does_not_ring_for_what_was_rolled_back(self, alice, heard):
        tell_and_take_back(alice)

        assert heard(alice) == []

    @pytest.mark.parametrize("first", [True, False])
    def test_does_not_ring_for_a_savepoint_that_was_rolled_back(self, first, alice, bob, heard):
        with transaction.atomic():
            if not first:
                tell(alice)
            tell_and_take_back(bob)
            if first:
                tell(alice)

        assert heard(alice, bob) == [ids_of(alice)]

    def test_the_next_transaction_rings_for_its_own_agents_alone(self, alice, bob, heard):
        tell_and_take_back(alice)
        tell(bob)

        assert heard(alice, bob) == [ids_of(bob)]

    def test_asks_the_database_nothing_and_notifies_nobody(self, alice, django_assert_num_queries):
        with transaction.atomic(), django_assert_num_queries(1) as captured:
            log.record("job.proposed", to=[alice.pk], data={}, at="2026-11-21T12:00:00Z")

        assert "notify" not in captured.captured_queries[0]["sql"].lower()

    def test_another_hook_that_fails_is_nothing_to_it(self, alice, heard):
        def fail():
            raise LookupError

        with transaction.atomic():
            transaction.on_commit(fail, robust=True)
            tell(alice)

        assert heard(alice) == [ids_of(alice)]

    def test_rings_from_each_of_two_processes_that_forked_from_one(self, alice, bob, heard):
        """A connection that both wrote to would mix their answers up."""
        tell(alice)
        child = os.fork()
        if not child:
            for _ in range(20):
                doorbell._publish([bob.pk])
            os._exit(0 if doorbell._silent_until == 0 else 1)
        for _ in range(20):
            doorbell._publish([alice.pk])
        _, status = os.waitpid(child, 0)

        assert status == 0
        assert sorted(heard(alice, bob)) == sorted([ids_of(alice)] * 21 + [ids_of(bob)] * 20)


@pytest.fixture
def tries(monkeypatch):
    """Count how often somebody tries to publish."""
    made = []
    publish = redis.Redis.publish

    def counting(self, *args, **kwargs):
        made.append(args)
        return publish(self, *args, **kwargs)

    monkeypatch.setattr(redis.Redis, "publish", counting)
    return made


@pytest.fixture
def blackhole(settings):
    """A Redis that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        yield server


@pytest.fixture
def nobody(settings):
    """No Redis: the port refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"


class TestRingWithoutRedis:
    @pytest.mark.parametrize("away", ["blackhole", "nobody"])
    def test_tries_once_and_is_silent_for_a_while(self, away, alice, tries, request):
        request.getfixturevalue(away)

        for _ in range(50):
            tell(alice)

        assert len(tries) == 1
        assert time.monotonic() < doorbell._silent_until <= time.monotonic() + doorbell.SILENCE_SECONDS

    def test_waits_no_longer_than_its_patience(self, blackhole, alice, monkeypatch):
        waited = []
        monkeypatch.setattr(socket.socket, "settimeout", _noting(socket.socket.settimeout, waited))

        tell(alice)

        assert max(seconds for seconds in waited if seconds is not None) <= doorbell.PATIENCE_SECONDS

    def test_connects_no_second_time(self, blackhole, alice):
        """The client's own default is three more tries with seconds between them."""
        blackhole.setblocking(False)

        tell(alice)

        blackhole.accept()
        with pytest.raises(BlockingIOError):
            blackhole.accept()

    def test_the_event_is_recorded_all_the_same(self, nobody, alice):
        tell(alice)

        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM accounts_event WHERE recipient_id = %s", [alice.pk])
            assert cursor.fetchone() == (1,)

    def test_rings_again_when_the_silence_is_over(self, alice, tries, monkeypatch, heard):
        monkeypatch.setattr(doorbell, "_silent_until", time.monotonic() + 0.2)

        tell(alice)
        silent = list(tries)
        time.sleep(0.25)
        tell(alice)

        assert silent == []
        assert heard(alice) == [ids_of(alice)]


def _noting(settimeout, waited):
    def noting(self, seconds):
        waited.append(seconds)
        return settimeout(self, seconds)

    return noting


class Proxy:
    """Stands before Redis, and can hang up on everybody, or be away."""

    def __init__(self):
        self.url = redis.connection.parse_url(settings.REDIS_URL)
        self.server = None
        self.writers = []
        self.deaf = set()

    async def start(self, port=0):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self.server.sockets[0].getsockname()[1]
        return f"redis://:{self.url.get('password', '')}@127.0.0.1:{self.port}/{self.url.get('db', 0)}"

    async def hang_up(self):
        self.server.close()
        for writer in self.writers:
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        there, back = await asyncio.open_connection(self.url["host"], self.url.get("port", 6379))
        self.writers += [writer, back]
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    def forget(self):
        """Stay connected to everybody, and hand nothing on any more: as a firewall that forgot them."""
        self.deaf |= set(self.writers)

    async def _copy(self, reader, writer):
        try:
            while chunk := await reader.read(4096):
                if writer not in self.deaf:
                    writer.write(chunk)
                    await writer.drain()
        except OSError:
            pass
        writer.close()


class TestListen:
    def test_hears_what_rings(self, alice, bob):
        async def hear():
            bells = doorbell.listen()
            return await _until_heard(bells, [alice.pk, bob.pk])

        assert sorted(asyncio.run(hear())) == sorted([alice.pk, bob.pk])

    def test_hears_again_after_redis_was_away(self, alice, settings, monkeypatch):
        monkeypatch.setattr(doorbell, "LAST_RETRY_SECONDS", 0.1)
        given = settings.REDIS_URL

        async def hear():
            proxy = Proxy()
            settings.REDIS_URL = await proxy.start()
            bells = doorbell.listen()
            first = await _until_heard(bells, [alice.pk], given)
            await proxy.hang_up()
            waiting = asyncio.ensure_future(_until_heard(bells, [alice.pk], given))
            await asyncio.sleep(0.3)
            was_away = not waiting.done()
            await proxy.start(proxy.port)
            again = await waiting
            await bells.aclose()
            await proxy.hang_up()
            return first, was_away, again

        assert asyncio.run(hear()) == ([alice.pk], True, [alice.pk])

    def test_leaves_a_connection_that_says_nothing(self, alice, settings, monkeypatch):
        """One that is dead without a word would never end by itself."""
        monkeypatch.setattr(doorbell, "QUIET_SECONDS", 0.2)
        given = settings.REDIS_URL

        async def hear():
            proxy = Proxy()
            settings.REDIS_URL = await proxy.start()
            bells = doorbell.listen()
            await _until_heard(bells, [alice.pk], given)
            proxy.forget()
            again = await _until_heard(bells, [alice.pk], given)
            await bells.aclose()
            await proxy.hang_up()
            return again

        assert asyncio.run(hear()) == [alice.pk]

    @pytest.mark.parametrize("junk", ["", "{", "7", "[7]", '["x"]', '{"a": 1}', b"\xff"])
    def test_passes_over_what_is_no_list_of_agents(self, junk, alice):
        async def hear():
            bells = doorbell.listen()
            return await _until_heard(bells, [alice.pk], junk=junk)

        assert asyncio.run(hear()) == [alice.pk]


async def _until_heard(bells, agents, url=None, junk=None):
    """Ring until it is heard: who listens may not be connected yet."""
    client = redis.asyncio.Redis.from_url(url or settings.REDIS_URL)

    async def keep_ringing():
        while True:
            if junk is not None:
                await client.publish(doorbell.CHANNEL, junk)
            await client.publish(doorbell.CHANNEL, json.dumps([str(agent) for agent in agents]))
            await asyncio.sleep(0.02)

    ringing = asyncio.ensure_future(keep_ringing())
    try:
        while True:
            told = await asyncio.wait_for(anext(bells), timeout=10)
            if set(told) & set(agents):
                return told
    finally:
        ringing.cancel()
        await client.aclose()
