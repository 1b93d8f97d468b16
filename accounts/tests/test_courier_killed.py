"""
Killed with -9 wherever it hurts: every event arrives at least once under one id, and nothing is left behind.

The workers are real processes, forked from the test's; what they hold ends with them.
"""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import Q

from accounts import clock
from accounts.events import deliveries, desk, log
from accounts.events.courier import Courier
from accounts.events.lanes import Lane
from accounts.models import WebhookDelivery, WebhookEndpoint
from accounts.tests.receivers import receiving

pytestmark = pytest.mark.django_db(transaction=True)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after_the_claim() -> None:
    claim = deliveries.claim

    def fatal(*args: Any, **options: Any) -> Any:
        if claim(*args, **options):
            die()
        return []

    deliveries.claim = fatal


def after_sending_before_recording() -> None:
    send = Lane._send

    async def fatal(self: Lane, *args: Any) -> Any:
        await send(self, *args)
        die()

    Lane._send = fatal  # type: ignore[method-assign]


def in_the_transaction_of_the_record() -> None:
    exchange = desk.exchange

    def executed(execute: Any, statement: str, *args: Any) -> Any:
        answer = execute(statement, *args)
        if "UPDATE accounts_webhookendpoint" in statement and "noted" in statement:
            die()
        return answer

    def fatal(*args: Any) -> Any:
        with connection.execute_wrapper(executed):
            return exchange(*args)

    desk.exchange = fatal


def between_one_record_and_the_next() -> None:
    record = deliveries.record

    def fatal(results: Any, *, returned: Any = ()) -> Any:
        if not results:
            return record(results, returned=returned)
        answer = record(results[:1])
        die()
        return answer

    deliveries.record = fatal


def after_the_commit() -> None:
    record = deliveries.record

    def fatal(results: Any, *, returned: Any = ()) -> Any:
        standings = record(results, returned=returned)
        if returned:
            die()
        return standings

    deliveries.record = fatal


POINTS = [
    after_the_claim,
    after_sending_before_recording,
    in_the_transaction_of_the_record,
    between_one_record_and_the_next,
    after_the_commit,
]


def in_a_process(work: Callable[[], None]) -> int:
    """Fork, work, and answer how it ended: a connection of the parent's is never touched."""
    connections.close_all()
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_another_goes_on(alice, point):
    with receiving() as receiver:
        WebhookEndpoint.objects.create(agent=alice, url=receiver.url())
        for number in range(5):
            log.record("key.added", to=[alice.pk], data={"number": number}, at=clock.now())

        def work() -> None:
            point()
            Courier().run_until_idle(timeout_seconds=20)

        assert in_a_process(work) == -signal.SIGKILL
        held = clock.now() + timedelta(seconds=60)
        assert not WebhookDelivery.objects.filter(leased_until__gt=held).exists()
        assert not WebhookEndpoint.objects.filter(lane_1_until__gt=held).exists()
        past = clock.now() - timedelta(seconds=1)
        WebhookDelivery.objects.exclude(lease=None).update(leased_until=past)
        WebhookEndpoint.objects.exclude(lane_1_until=None).update(lane_1_until=past)
        WebhookEndpoint.objects.exclude(lane_2_until=None).update(lane_2_until=past)

        other = Courier()
        other.run_until_idle()
        other.stop()

    rows = WebhookDelivery.objects.all()
    assert {post.id for post in receiver.posts} == {f"evt_{row.event_epoch}_{row.event_id}" for row in rows}
    assert len({(post.id, post.body) for post in receiver.posts}) == 5
    assert {(row.state, row.lease, row.attempts) for row in rows} == {("delivered", None, 1)}
    now = clock.now()
    assert not WebhookEndpoint.objects.filter(Q(lane_1_until__gt=now) | Q(lane_2_until__gt=now)).exists()


def test_before_the_lease_is_over_nobody_else_sends_it(alice):
    with receiving() as receiver:
        WebhookEndpoint.objects.create(agent=alice, url=receiver.url())
        log.record("key.added", to=[alice.pk], data={}, at=clock.now())

        def work() -> None:
            after_the_claim()
            Courier().run_until_idle(timeout_seconds=20)

        assert in_a_process(work) == -signal.SIGKILL
        other = Courier()
        other.run_until_idle()
        other.stop()

    assert receiver.posts == []
    assert WebhookDelivery.objects.exclude(lease=None).count() == 1


def test_ten_events_and_four_processes_make_ten_posts(alice):
    with receiving() as receiver:
        WebhookEndpoint.objects.create(agent=alice, url=receiver.url())
        connections.close_all()
        children = []
        for _ in range(4):
            if child := os.fork():
                children.append(child)
                continue
            try:
                one = Courier()
                for _ in range(100):
                    one.run_until_idle(timeout_seconds=20)
                one.stop()
                os._exit(0)
            finally:
                os._exit(1)
        for number in range(10):
            log.record("key.added", to=[alice.pk], data={"number": number}, at=clock.now())
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
        one = Courier()
        one.run_until_idle()
        one.stop()

    assert len(receiver.ids()) == len(set(receiver.ids())) == 10
    assert set(WebhookDelivery.objects.values_list("state", "attempts")) == {("delivered", 1)}
