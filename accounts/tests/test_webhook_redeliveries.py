"""What a receiver has missed, sent once more."""

from datetime import timedelta

import pytest

from accounts import clock, ids
from accounts.errors import NotFound
from accounts.events import log, redeliveries, webhooks
from accounts.models import Event, WebhookDelivery

pytestmark = pytest.mark.django_db

URL = "https://receiver.example/hook"


@pytest.fixture
def endpoint(alice):
    return webhooks.create(alice.pk, url=URL).endpoint


def tell(agent, *, kind="job.funded", times=1):
    for _ in range(times):
        log.record(kind, to=[agent.pk], data={}, at=clock.now())


def stands(row):
    row.refresh_from_db()
    return row


@pytest.fixture
def delivered(alice, endpoint):
    tell(alice)
    at = clock.now()
    WebhookDelivery.objects.update(
        state="delivered", delivered_at=at, attempts=3, tries=3, next_attempt_at=at + timedelta(hours=1)
    )
    return WebhookDelivery.objects.get()


class TestAgain:
    @pytest.mark.parametrize("state", ["delivered", "failed", "pending"])
    def test_is_due_now_with_the_whole_schedule_before_it(self, alice, delivered, state):
        ended = delivered.delivered_at if state == "delivered" else None
        WebhookDelivery.objects.update(state=state, delivered_at=ended)
        before = clock.now()

        redeliveries.again(delivered.pk, agent=alice)

        row = stands(delivered)
        assert (row.state, row.tries, row.attempts, row.delivered_at) == ("pending", 0, 3, None)
        assert before <= row.next_attempt_at <= clock.now()

    def test_is_refused_while_a_worker_has_it(self, alice, delivered):
        at = clock.now()
        lease = {"lease": ids.uuid7(), "leased_until": at + timedelta(seconds=60)}
        WebhookDelivery.objects.update(state="pending", delivered_at=None, **lease)

        with pytest.raises(redeliveries.DeliveryInFlight):
            redeliveries.again(delivered.pk, agent=alice, at=at)

        assert stands(delivered).lease == lease["lease"]
        redeliveries.again(delivered.pk, agent=alice, at=lease["leased_until"])
        assert (stands(delivered).lease, delivered.leased_until) == (None, None)

    def test_is_refused_by_a_disabled_endpoint(self, alice, endpoint, delivered):
        webhooks.change(endpoint.pk, agent=alice, state="disabled")

        with pytest.raises(webhooks.EndpointDisabled):
            redeliveries.again(delivered.pk, agent=alice)

    def test_a_foreign_one_and_one_of_a_deleted_endpoint_are_not_there(self, alice, bob, endpoint, delivered):
        for delivery_id, agent in ((delivered.pk, bob), (ids.uuid7(), alice)):
            with pytest.raises(NotFound):
                redeliveries.again(delivery_id, agent=agent)
        webhooks.delete(endpoint.pk, agent=alice)

        with pytest.raises(NotFound):
            redeliveries.again(delivered.pk, agent=alice)


class TestSince:
    def test_brings_back_what_was_never_queued_or_ended(self, alice, bob, endpoint, delivered):
        first = Event.objects.get()
        webhooks.change(endpoint.pk, agent=alice, state="disabled")
        tell(alice, times=2)
        tell(bob)
        webhooks.change(endpoint.pk, agent=alice, state="enabled")

        found = redeliveries.since(endpoint.pk, agent=alice, since=first.recorded_at)

        assert found == (3, None)
        rows = WebhookDelivery.objects.order_by("event_id")
        assert [row.event_id for row in rows] == list(
            Event.objects.filter(recipient=alice).order_by("pk").values_list("pk", flat=True)
        )
        assert {(row.state, row.tries, row.delivered_at) for row in rows} == {("pending", 0, None)}
        assert {row.event_recorded_at for row in rows} == set(
            Event.objects.filter(recipient=alice).values_list("recorded_at", flat=True)
        )
        assert all(row.next_attempt_at <= clock.now() for row in rows)

    def test_begins_at_the_time_itself(self, alice, endpoint):
        tell(alice, times=3)
        middle = Event.objects.order_by("pk")[1]
        WebhookDelivery.objects.all().delete()

        redeliveries.since(endpoint.pk, agent=alice, since=middle.recorded_at)

        assert set(WebhookDelivery.objects.values_list("event_id", flat=True)) == set(
            Event.objects.filter(pk__gte=middle.pk).values_list("pk", flat=True)
        )

    def test_lets_pass_what_the_filter_lets_pass_and_no_tests(self, alice):
        endpoint = webhooks.create(alice.pk, url=URL, event_types=["key.added", "webhook.test"]).endpoint
        start = clock.now()
        tell(alice)
        tell(alice, kind="key.added")
        webhooks.send_test(endpoint.pk, agent=alice)
        WebhookDelivery.objects.all().delete()

        assert redeliveries.since(endpoint.pk, agent=alice, since=start) == (1, None)
        assert WebhookDelivery.objects.get().type == "key.added"

    def test_leaves_to_a_worker_what_it_has_right_now(self, alice, endpoint):
        tell(alice, times=3)
        at = clock.now()
        old, fresh, _ = WebhookDelivery.objects.order_by("event_id")
        kept = {"lease": ids.uuid7(), "leased_until": at + timedelta(seconds=60)}
        WebhookDelivery.objects.filter(pk=fresh.pk).update(tries=1, attempts=1, **kept)
        WebhookDelivery.objects.filter(pk=old.pk).update(lease=ids.uuid7(), leased_until=at - timedelta(seconds=1))

        assert redeliveries.since(endpoint.pk, agent=alice, since=at - timedelta(hours=1)).queued == 2
        assert (stands(fresh).lease, fresh.tries) == (kept["lease"], 1)
        assert stands(old).lease is None

    def test_goes_on_where_it_stopped(self, alice, endpoint):
        start = clock.now()
        tell(alice, times=7)
        WebhookDelivery.objects.all().delete()
        queued, since = [], start

        while since is not None:
            found = redeliveries.since(endpoint.pk, agent=alice, since=since, limit=3)
            queued.append(found.queued)
            since = found.next_since

        assert queued == [3, 3, 1]
        assert WebhookDelivery.objects.count() == 7

    def test_never_stands_still_at_one_moment(self, alice, endpoint):
        """Events of one microsecond come together, however many there are."""
        start = clock.now()
        of_one = {"recipient": alice, "type": "job.funded", "data": {}, "recorded_at": start}
        Event.objects.bulk_create([Event(**of_one) for _ in range(5)])

        assert redeliveries.since(endpoint.pk, agent=alice, since=start, limit=2).queued == 5

    def test_again_and_again_leaves_one_delivery_each(self, alice, endpoint):
        start = clock.now()
        tell(alice, times=3)

        assert [redeliveries.since(endpoint.pk, agent=alice, since=start).queued for _ in range(3)] == [3, 3, 3]
        assert WebhookDelivery.objects.count() == 3

    def test_of_nothing_is_complete(self, alice, endpoint):
        tell(alice)

        assert redeliveries.since(endpoint.pk, agent=alice, since=clock.now() + timedelta(days=1)) == (0, None)

    def test_is_refused_by_a_disabled_endpoint_and_to_strangers(self, alice, bob, endpoint):
        with pytest.raises(NotFound):
            redeliveries.since(endpoint.pk, agent=bob, since=clock.now())
        webhooks.change(endpoint.pk, agent=alice, state="disabled")

        with pytest.raises(webhooks.EndpointDisabled):
            redeliveries.since(endpoint.pk, agent=alice, since=clock.now())
