"""Endpoints and deliveries under several hands at once: real commits, and moments that are held still."""

import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection, connections, transaction

from accounts import clock, tasks
from accounts.events import deliveries, log, redeliveries, secrets, webhooks
from accounts.events.parcels import Result
from accounts.models import Event, WebhookDelivery, WebhookEndpoint

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://receiver.example/hook"


@pytest.fixture
def endpoint(alice):
    return webhooks.create(alice.pk, url=URL).endpoint


def tell(agent, times=1):
    for _ in range(times):
        log.record("job.funded", to=[agent.pk], data={}, at=clock.now())


def started(function):
    """Call it on another connection, as another process would."""

    def run():
        try:
            function()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def elsewhere(function):
    """Call it so, and wait for it."""
    outcome = []
    thread = started(lambda: outcome.append(function()))
    thread.join(timeout=30)
    assert not thread.is_alive(), "it waits for us"
    return outcome[0]


def answered(parcel, status):
    return [Result(parcel, letter.delivery_id, status=status) for letter in parcel.letters]


class TestLimit:
    def test_is_exact(self, alice, race, settings):
        settings.WEBHOOK_ENDPOINTS_PER_AGENT = 3

        made = race(*[lambda: webhooks.create(alice.pk, url=URL)] * 8)

        assert sum(isinstance(one, webhooks.Told) for one in made) == 3
        assert sum(isinstance(one, webhooks.TooManyEndpoints) for one in made) == 5
        assert WebhookEndpoint.objects.count() == 3


class TestRotate:
    def test_gives_each_of_eight_a_secret_of_its_own(self, alice, endpoint, race):
        told = race(*[lambda: webhooks.rotate(endpoint.pk, agent=alice)] * 8)

        endpoint.refresh_from_db()
        assert endpoint.secret_generation == 9
        assert {one.secret for one in told} == {secrets.of(endpoint, generation) for generation in range(2, 10)}


class TestRedelivery:
    @pytest.mark.parametrize("whole", [False, True], ids=["of_one", "since"])
    def test_takes_nothing_from_a_worker(self, alice, endpoint, monkeypatch, whole):
        """A worker that claims in the middle of a redelivery gets it before or after, never to lose it again."""
        tell(alice)
        delivery = WebhookDelivery.objects.get()
        claimed = []

        def hold_still(*, then):
            claimed.extend(elsewhere(lambda: deliveries.claim(10)))
            return then()

        if whole:
            enabled = webhooks.require_enabled
            monkeypatch.setattr(webhooks, "require_enabled", lambda row: hold_still(then=lambda: enabled(row)))
            redeliveries.since(endpoint.pk, agent=alice, since=clock.now() - timedelta(hours=1))
        else:
            still = SimpleNamespace(now=lambda: hold_still(then=clock.now))
            monkeypatch.setattr(redeliveries, "clock", still)
            redeliveries.again(delivery.pk, agent=alice)

        delivery.refresh_from_db()
        assert [parcel.lease for parcel in claimed] == ([delivery.lease] if delivery.lease else [])
        monkeypatch.undo()
        (parcel,) = claimed or deliveries.claim(10)
        with pytest.raises(redeliveries.DeliveryInFlight):
            redeliveries.again(delivery.pk, agent=alice)
        deliveries.record(answered(parcel, 200))
        delivery.refresh_from_db()
        assert (delivery.state, delivery.attempts) == ("delivered", 1)

    @pytest.mark.parametrize("whole", [False, True], ids=["of_one", "since"])
    def test_leaves_nothing_pending_when_the_endpoint_is_disabled_meanwhile(self, alice, endpoint, monkeypatch, whole):
        tell(alice)
        delivery = WebhookDelivery.objects.get()
        enabled, other = webhooks.require_enabled, []

        def hold_still(row):
            enabled(row)
            other.append(started(lambda: webhooks.change(endpoint.pk, agent=alice, state="disabled")))
            other[0].join(timeout=0.5)  # it waits for us, or has done its worst

        monkeypatch.setattr(webhooks, "require_enabled", hold_still)
        if whole:
            redeliveries.since(endpoint.pk, agent=alice, since=clock.now() - timedelta(hours=1))
        else:
            redeliveries.again(delivery.pk, agent=alice)
        other[0].join()

        delivery.refresh_from_db()
        assert (delivery.state, delivery.last_error) == ("failed", "endpoint_disabled")

    def test_by_four_beside_four_workers_leaves_every_lease_with_its_worker(self, alice, endpoint, race):
        tell(alice, times=10)
        rows = list(WebhookDelivery.objects.values_list("pk", flat=True))
        since = clock.now() - timedelta(hours=1)

        outcomes = race(
            *[lambda: deliveries.claim(10)] * 4,
            *[lambda pk=pk: redeliveries.again(pk, agent=alice) for pk in rows[:2]],
            *[lambda: redeliveries.since(endpoint.pk, agent=alice, since=since)] * 2,
        )

        parcels = [parcel for found in outcomes[:4] for parcel in found]
        leased = {letter.delivery_id: parcel.lease for parcel in parcels for letter in parcel.letters}
        assert dict(WebhookDelivery.objects.exclude(lease=None).values_list("pk", "lease")) == leased
        refused = [one for one in outcomes[4:6] if isinstance(one, Exception)]
        assert all(isinstance(one, redeliveries.DeliveryInFlight) for one in refused)
        assert all(isinstance(one, redeliveries.Queued) for one in outcomes[6:])

    def test_since_by_eight_at_once_leaves_one_delivery_each(self, alice, endpoint, race):
        since = clock.now()
        tell(alice, times=20)
        WebhookDelivery.objects.all().delete()

        found = race(*[lambda: redeliveries.since(endpoint.pk, agent=alice, since=since)] * 8)

        assert found == [(20, None)] * 8
        assert WebhookDelivery.objects.count() == 20


class TestDelete:
    def test_leaves_nothing_to_whoever_is_sending(self, alice, endpoint):
        tell(alice)
        (parcel,) = deliveries.claim(10)

        webhooks.delete(endpoint.pk, agent=alice)
        deliveries.record(answered(parcel, 500))

        row = WebhookDelivery.objects.get()
        assert (row.state, row.attempts, row.last_error) == ("failed", 0, "endpoint_deleted")
        assert deliveries.claim(10) == []

    def test_beside_answers_leaves_nothing_pending(self, alice, race):
        made = [webhooks.create(alice.pk, url=URL).endpoint for _ in range(4)]
        tell(alice)
        parcels = deliveries.claim(10)

        outcomes = race(
            *[lambda pk=endpoint.pk: webhooks.delete(pk, agent=alice) for endpoint in made],
            *[lambda parcel=parcel: deliveries.record(answered(parcel, 500)) for parcel in parcels],
        )

        assert [one for one in outcomes if isinstance(one, Exception)] == []
        assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"failed"}

    def test_by_eight_at_once_happens_once(self, alice, endpoint, race):
        outcomes = race(*[lambda: webhooks.delete(endpoint.pk, agent=alice)] * 8)

        assert sum(one is None for one in outcomes) == 1


class TestDisable:
    def test_by_eight_workers_at_once_tells_once(self, endpoint, race):
        at = clock.now()

        race(*[lambda: webhooks.disable(endpoint.pk, reason="gone", at=at)] * 8)

        assert Event.objects.filter(type="webhook.disabled").count() == 1

    def test_is_undone_by_no_answer_to_what_was_sent_before_the_url_was_another(self, alice, endpoint):
        tell(alice)
        (parcel,) = deliveries.claim(10)

        webhooks.change(endpoint.pk, agent=alice, url="https://other.example/")
        deliveries.record(answered(parcel, 410))

        endpoint.refresh_from_db()
        row = WebhookDelivery.objects.get()
        assert (endpoint.state, row.state, row.attempts) == ("enabled", "pending", 0)

    @pytest.mark.parametrize("end", ["disabled", "deleted"])
    def test_ends_what_was_recorded_meanwhile(self, alice, endpoint, end):
        """Whoever records an event in an open transaction saw the endpoint enabled."""
        tell(alice)

        def ended():
            if end == "deleted":
                return webhooks.delete(endpoint.pk, agent=alice)
            return webhooks.change(endpoint.pk, agent=alice, state="disabled")

        with transaction.atomic():
            tell(alice)
            elsewhere(ended)
        assert WebhookDelivery.objects.filter(state="pending").count() == 1

        tasks.keep_events()

        assert {row.last_error for row in WebhookDelivery.objects.filter(state="failed")} == {f"endpoint_{end}"}
        assert not WebhookDelivery.objects.filter(state="pending").exists()
        assert webhooks.end_strays() == 0

    def test_leaves_what_is_pending_for_enabled_ones(self, alice, endpoint):
        tell(alice)

        assert webhooks.end_strays() == 0
        assert WebhookDelivery.objects.get().state == "pending"


class TestRecorded:
    def test_a_change_that_commits_leaves_its_delivery_and_one_that_does_not_leaves_none(self, alice, endpoint, race):
        """Eight at once, every other one rolled back."""

        def change(commits):
            with transaction.atomic():
                tell(alice)
                transaction.set_rollback(not commits)

        race(*[lambda commits=number % 2 == 0: change(commits) for number in range(8)])

        events = {(event.pk, event.epoch) for event in Event.objects.all()}
        assert len(events) == 4
        assert {(row.event_id, row.event_epoch) for row in WebhookDelivery.objects.all()} == events
        assert connection.in_atomic_block is False
