"""Sending to real receivers on this machine."""

import email.utils
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection, transaction
from standardwebhooks import Webhook

from accounts import clock, tasks
from accounts.events import courier as couriers
from accounts.events import deliveries, feed, log, rendering, secrets, webhooks
from accounts.events.courier import Courier
from accounts.models import Agent, WebhookDelivery, WebhookEndpoint
from accounts.tests.receivers import Post, Reply, receiving

pytestmark = pytest.mark.django_db(transaction=True)

State = WebhookDelivery.State


@pytest.fixture
def courier(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Courier]]:
    monkeypatch.setattr(couriers, "STOP_SECONDS", 0.3)
    started: list[Courier] = []

    def courier(**options: Any) -> Courier:
        started.append(Courier(**options))
        return started[-1]

    yield courier
    for one in started:
        one.stop()


def endpoint(agent: Agent, url: str, **fields: Any) -> WebhookEndpoint:
    return WebhookEndpoint.objects.create(agent=agent, url=url, **fields)


def tell(agent: Agent, count: int = 1) -> None:
    for number in range(count):
        log.record("key.added", to=[agent.pk], data={"number": number}, at=clock.now())


def states() -> list[str]:
    return list(WebhookDelivery.objects.order_by("event_id").values_list("state", flat=True))


def make_due() -> None:
    WebhookDelivery.objects.filter(state=State.PENDING).update(next_attempt_at=clock.now() - timedelta(seconds=1))


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestSending:
    def test_sends_each_event_as_the_agent_reads_it_and_signs_it(self, alice, courier):
        with receiving() as receiver:
            made = endpoint(alice, receiver.url("/hook"))
            tell(alice, 3)

            courier().run_until_idle()

        rows = WebhookDelivery.objects.order_by("event_id")
        told = [feed.find(row.event_id, row.event_epoch, row.event_recorded_at) for row in rows]
        assert [json.loads(post.body) for post in receiver.posts] == [rendering.shown(one) for one in told]
        assert receiver.ids() == [f"evt_{one.cursor.epoch}_{one.cursor.id}" for one in told]
        for post in receiver.posts:
            Webhook(secrets.of(made, 1)).verify(post.body, post.headers)
        assert states() == [State.DELIVERED] * 3

    def test_an_attempt_again_carries_the_same_id_and_body(self, alice, courier):
        with receiving(lambda post: Reply(500 if len(receiver.posts) < 3 else 200)) as receiver:
            endpoint(alice, receiver.url())
            tell(alice)
            one = courier()

            for _ in range(3):
                one.run_until_idle()
                make_due()

        assert len(receiver.posts) == 3
        assert len({(post.id, post.body) for post in receiver.posts}) == 1
        assert states() == [State.DELIVERED]

    def test_both_secrets_sign_while_a_rotation_overlaps(self, alice, courier):
        with receiving() as receiver:
            made = endpoint(alice, receiver.url())
            told = webhooks.rotate(made.pk, agent=alice)
            tell(alice)

            courier().run_until_idle()

        [post] = receiver.posts
        for secret in (secrets.of(made, 1), told.secret):
            Webhook(secret).verify(post.body, post.headers)

    def test_signs_by_the_time_of_the_database(self, alice, courier, monkeypatch):
        with receiving() as receiver:
            endpoint(alice, receiver.url())
            tell(alice)
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(time, "time", lambda: 0.0)

                courier().run_until_idle()

        stamp = int(receiver.posts[0].headers["webhook-timestamp"])
        assert abs(stamp - clock.now().timestamp()) < 60

    def test_follows_no_redirect(self, alice, courier):
        with receiving(lambda post: Reply(302, {"Location": receiver.url("/elsewhere")})) as receiver:
            endpoint(alice, receiver.url("/hook"))
            tell(alice)

            courier().run_until_idle()

        assert [post.path for post in receiver.posts] == ["/hook"]
        delivery = WebhookDelivery.objects.get()
        assert (delivery.state, delivery.last_status) == (State.PENDING, 302)

    def test_gone_disables(self, alice, courier):
        with receiving(lambda post: Reply(410)) as receiver:
            made = endpoint(alice, receiver.url())
            tell(alice, 3)

            courier().run_until_idle()

        made.refresh_from_db()
        assert (made.state, made.disabled_reason) == ("disabled", "gone")
        assert len(receiver.posts) == 1

    @pytest.mark.parametrize(
        "hour",
        [lambda: "3600", lambda: email.utils.formatdate(time.time() + 3_600, usegmt=True)],
        ids=["seconds", "date"],
    )
    def test_leaves_a_receiver_in_peace_that_asks_for_it(self, alice, courier, hour):
        with receiving(lambda post: Reply(429, {"Retry-After": hour()})) as receiver:
            made = endpoint(alice, receiver.url())
            tell(alice, 3)

            courier().run_until_idle()

        made.refresh_from_db()
        waits = (made.held_until - WebhookDelivery.objects.get(attempts=1).last_attempt_at).total_seconds()
        assert 3_500 < waits <= 3_601
        assert len(receiver.posts) == 1

    def test_a_blocked_address_is_a_failure(self, alice, courier, settings):
        settings.EGRESS_LOOPBACK = False
        endpoint(alice, "https://127.0.0.1/hook")
        tell(alice)

        courier().run_until_idle()

        delivery = WebhookDelivery.objects.get()
        assert (delivery.state, delivery.last_error, delivery.attempts) == (State.PENDING, "blocked_address", 1)

    def test_an_event_that_is_no_longer_kept_is_not_sent(self, alice, courier):
        with receiving() as receiver:
            endpoint(alice, receiver.url())
            tell(alice)
            WebhookDelivery.objects.update(event_id=10**9)

            courier().run_until_idle()

        assert receiver.posts == []
        assert states() == [State.FAILED]

    def test_the_doorbell_is_heard(self, alice, courier):
        with receiving() as receiver:
            endpoint(alice, receiver.url())
            courier().run_until_idle()

            def told_and_sent() -> bool:  # again, until the courier has subscribed
                tell(alice)
                time.sleep(0.05)
                return bool(receiver.posts)

            until(told_and_sent)

    def test_nothing_is_sent_of_what_is_rolled_back(self, alice, courier):
        with receiving() as receiver:
            endpoint(alice, receiver.url())
            one = courier()
            with transaction.atomic():
                tell(alice)
                transaction.set_rollback(True)

            one.run_until_idle()

        assert receiver.posts == []


class TestMany:
    def test_ten_events_and_four_workers_make_ten_posts(self, alice, courier):
        with receiving() as receiver:
            endpoint(alice, receiver.url())
            workers = [courier() for _ in range(4)]
            tell(alice, 10)

            for one in workers:
                one.ring()
            for one in workers:
                one.run_until_idle()

        assert len(receiver.ids()) == len(set(receiver.ids())) == 10
        assert states() == [State.DELIVERED] * 10

    def test_a_receiver_gets_two_at_once(self, alice, courier):
        with receiving(lambda post: Reply(after_seconds=0.02)) as receiver:
            endpoint(alice, receiver.url())
            tell(alice, 60)
            workers = [courier() for _ in range(4)]

            for _ in range(3):
                for one in workers:
                    one.ring()
            for one in workers:
                one.run_until_idle()
            until(lambda: set(states()) == {State.DELIVERED})

        assert receiver.most_at_once["/"] == 2
        assert len(receiver.ids()) == len(set(receiver.ids())) == 60

    def test_bad_receivers_delay_nobody(self, make_agent, alice, courier):
        """All of the healthy one's events arrive before the slow one has answered its first."""
        with receiving(reply_of_path) as receiver, socket.create_server(("127.0.0.1", 0)) as deaf:
            bad = make_agent("bad")
            black_hole = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
            for url in (receiver.url("/slow"), receiver.url("/500"), "http://127.0.0.1:1/", black_hole):
                endpoint(bad, url)
            tell(bad, 30)
            one = courier()
            one.ring()
            receiver.wait_for(2, path="/slow")
            endpoint(alice, receiver.url("/healthy"))
            tell(alice, 45)
            one.ring()
            receiver.wait_for(45, path="/healthy")

            assert len(receiver.ids("/slow")) == 2
            assert receiver.in_flight("/slow") == 2

    def test_places_are_kept_for_the_healthy(self, make_agent, alice, courier):
        with receiving(reply_of_path) as receiver:
            for number in range(12):
                bad = make_agent(f"bad-{number}")
                endpoint(bad, receiver.url(f"/slow/{number}"), failing_since=clock.now())
                tell(bad)
            one = courier(lanes=8, doubtful=5)
            one.ring()
            until(lambda: len(receiver.posts) == 5)
            endpoint(alice, receiver.url("/healthy"))
            tell(alice, 45)
            one.ring()
            receiver.wait_for(45, path="/healthy")

            assert len(receiver.posts) == 45 + 5

    def test_who_answered_slowly_is_doubtful_for_a_while(self, make_agent, courier, monkeypatch):
        monkeypatch.setattr("accounts.events.lanes.SLOW_SECONDS", 0.0)
        with receiving() as receiver:
            for number in range(6):
                agent = make_agent(f"slow-{number}")
                endpoint(agent, receiver.url(f"/{number}"))
                tell(agent)
            one = courier(doubtful=0)
            one.run_until_idle()
            assert len(receiver.posts) == 6
            tell(agent)

            one.run_until_idle()

        assert len(receiver.posts) == 6

    def test_who_is_just_quick_enough_takes_turns_with_others(self, make_agent, courier, monkeypatch):
        """As many as there are places, each with a queue, hold up nobody for longer than a turn."""
        monkeypatch.setattr("accounts.events.lanes.TURN_SECONDS", 0.0)
        monkeypatch.setattr(couriers, "PAUSE_SECONDS", 0.0)
        with receiving() as receiver:
            for name in ("first", "second", "late"):
                agent = make_agent(name)
                endpoint(agent, receiver.url(f"/{name}"))
                tell(agent, 1 if name == "late" else 15)

            courier(lanes=1).run_until_idle()

        assert "/late" in [post.path for post in receiver.posts[:5]]

    def test_all_are_sent_with_few_places(self, make_agent, courier):
        with receiving(lambda post: Reply(500 if post.path == "/1" else 200)) as receiver:
            for number in range(20):
                agent = make_agent(f"agent-{number}")
                endpoint(agent, receiver.url(f"/{number % 2}"))
                tell(agent, 3)

            courier(lanes=3, doubtful=1).run_until_idle()

        assert len(receiver.ids()) == len(set(receiver.ids())) == 60
        assert sorted(states()) == [State.DELIVERED] * 30 + [State.PENDING] * 30


def reply_of_path(post: Post) -> Reply:
    if post.path.startswith("/slow"):
        return Reply(after_seconds=15)
    return Reply(500 if post.path == "/500" else 200)


class TestMeanwhile:
    @pytest.mark.parametrize("end", ["delete", "disable", "change"])
    def test_what_is_done_to_an_endpoint_stops_what_is_on_its_way(self, alice, courier, end):
        with receiving(lambda post: Reply(after_seconds=0.3 if post.path == "/old" else 0)) as receiver:
            made = endpoint(alice, receiver.url("/old"))
            tell(alice, 18)
            one = courier()
            one.ring()
            receiver.wait_for(1)

            if end == "delete":
                webhooks.delete(made.pk, agent=alice)
            elif end == "disable":
                webhooks.change(made.pk, agent=alice, state="disabled")
            else:
                webhooks.change(made.pk, agent=alice, url=receiver.url("/new"))
            one.run_until_idle()

        assert len(receiver.ids("/old")) <= 3
        assert set(states()) == ({State.DELIVERED} if end == "change" else {State.FAILED})
        made.refresh_from_db()
        assert max(made.lane_1_until, made.lane_2_until or made.lane_1_until) <= clock.now()

    def test_a_worker_that_lost_its_lease_records_nothing(self, alice, courier):
        with receiving(lambda post: Reply(500, after_seconds=15)) as receiver:
            made = endpoint(alice, receiver.url())
            tell(alice)
            one = courier()
            one.ring()
            receiver.wait_for(1)
            past = clock.now() - timedelta(seconds=1)
            WebhookDelivery.objects.update(leased_until=past)
            WebhookEndpoint.objects.update(lane_1_until=past)
            [parcel] = deliveries.claim(1)

            receiver.released.set()
            until(lambda: not one._lanes and not one._returned)
            one.run_until_idle()

        made.refresh_from_db()
        delivery = WebhookDelivery.objects.get()
        assert (delivery.lease, delivery.attempts) == (parcel.lease, 0)
        assert (made.lane_1_until, made.failing_since) == (parcel.until, None)

    def test_results_outlive_a_database_that_is_away(self, alice, courier, monkeypatch):
        monkeypatch.setattr(couriers, "TROUBLE_SECONDS", 0.05)
        tried = []
        record = deliveries.record

        def away(*args: Any, **options: Any) -> Any:
            if args[0] and len(tried) < 3:
                tried.append(args)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return record(*args, **options)

        monkeypatch.setattr(deliveries, "record", away)
        with receiving() as receiver:
            endpoint(alice, receiver.url())
            tell(alice, 3)

            courier().run_until_idle()

        assert len(tried) == 3
        assert len(receiver.posts) == 3
        assert states() == [State.DELIVERED] * 3

    def test_a_result_that_cannot_be_recorded_does_not_stop_the_others(self, alice, bob, courier, monkeypatch):
        record = deliveries.record

        def picky(results: Any, **options: Any) -> Any:
            if any(result.parcel.endpoint.agent_id == bob.pk for result in results):
                raise ValueError("a bug")
            return record(results, **options)

        monkeypatch.setattr(deliveries, "record", picky)
        with receiving() as receiver:
            for agent in (alice, bob):
                endpoint(agent, receiver.url())
            tell(alice, 3)
            tell(bob)

            courier().run_until_idle()

        assert states() == [State.DELIVERED] * 3 + [State.PENDING]


class TestStop:
    def test_gives_back_what_was_not_sent(self, alice, courier):
        with receiving(lambda post: Reply(after_seconds=15)) as receiver:
            made = endpoint(alice, receiver.url())
            tell(alice, 5)
            one = courier()
            one.ring()
            receiver.wait_for(1)

            one.stop()

            made.refresh_from_db()
            [leased] = WebhookDelivery.objects.exclude(lease=None)
            assert f"evt_{leased.event_epoch}_{leased.event_id}" == receiver.ids()[0]
            assert made.lane_1_until <= clock.now()
            assert not one.is_alive

    def test_records_what_is_answered_in_time(self, alice, courier, monkeypatch):
        monkeypatch.setattr(couriers, "STOP_SECONDS", 10)
        with receiving(lambda post: Reply(after_seconds=0.5)) as receiver:
            endpoint(alice, receiver.url())
            tell(alice, 5)
            one = courier()
            one.ring()
            receiver.wait_for(1)

            one.stop()

        assert sorted(states()) == [State.DELIVERED] + [State.PENDING] * 4
        assert not WebhookDelivery.objects.exclude(lease=None).exists()


@contextmanager
def celery_worker() -> Iterator["subprocess.Popen[bytes]"]:
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    worker = subprocess.Popen(
        [
            *(Path(sys.executable).parent / "celery", "--app", "config.celery", "worker", "--queues", "webhooks"),
            *("--concurrency", "1", "--without-gossip", "--without-mingle", "--loglevel", "WARNING"),
        ],
        env={**os.environ, "DATABASE_URL": url, "REDIS_URL": settings.REDIS_URL},
        cwd=settings.BASE_DIR,
    )
    try:
        tasks.deliver_webhooks.apply_async()
        yield worker
    finally:
        worker.kill()
        worker.wait()


class TestProcess:
    def test_the_task_leaves_a_courier_that_goes_on(self, alice):
        with receiving() as receiver:
            endpoint(alice, receiver.url())
            tell(alice, 3)

            tasks.deliver_webhooks()

            until(lambda: states() == [State.DELIVERED] * 3)

    def test_a_child_has_none_of_its_parents_threads(self):
        couriers.ring()

        child = os.fork()
        if not child:
            os._exit(0 if couriers._ours is None else 1)

        assert os.waitpid(child, 0)[1] == 0
        assert couriers._ours is not None

    @pytest.mark.long
    def test_a_worker_sends_and_gives_back_when_it_is_told_to_stop(self, alice):
        """A real one, of Celery's: prefork, one process."""
        with receiving(lambda post: Reply(after_seconds=2 if len(receiver.posts) > 3 else 0)) as receiver:
            endpoint(alice, receiver.url())
            tell(alice, 10)
            with celery_worker() as worker:
                receiver.wait_for(4, within_seconds=60)
                worker.terminate()
                assert worker.wait(30) == 0

        assert states().count(State.DELIVERED) == 4
        assert not WebhookDelivery.objects.exclude(lease=None).exists()
