"""Claiming, recording and scheduling, without a receiver."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from accounts import clock
from accounts.events import deliveries, log, webhooks
from accounts.events.parcels import Parcel, Result, Return
from accounts.models import Agent, WebhookDelivery, WebhookEndpoint

State = WebhookDelivery.State

# Written again by hand from trust.md, section 5.
SECONDS_BEFORE = [0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600]

HELD = Q(lane_1_until__gt=Now()) | Q(lane_2_until__gt=Now())


@pytest.fixture
def hook(alice: Agent) -> WebhookEndpoint:
    return make(alice)


def make(agent: Agent, **fields: Any) -> WebhookEndpoint:
    return WebhookEndpoint.objects.create(agent=agent, url="https://receiver.example/hook", **fields)


def tell(agent: Agent, count: int = 1) -> None:
    for number in range(count):
        log.record("key.added", to=[agent.pk], data={"number": number}, at=clock.now())


def make_due(**fields: Any) -> None:
    """Let time pass for what waits."""
    WebhookDelivery.objects.update(next_attempt_at=clock.now() - timedelta(seconds=1), **fields)


def answer(parcel: Parcel, position: int = 0, **said: Any) -> Result:
    return Result(parcel, parcel.letters[position].delivery_id, **said)


def attempt(**said: Any) -> WebhookDelivery:
    """Claim the one delivery there is and answer it."""
    [parcel] = deliveries.claim(1)
    deliveries.record([answer(parcel, **said)], returned=[Return(parcel)])
    return WebhookDelivery.objects.get(pk=parcel.letters[0].delivery_id)


def lease_again() -> None:
    """Let the leases and lanes of whoever was killed run out."""
    past = clock.now() - timedelta(seconds=1)
    WebhookDelivery.objects.exclude(lease=None).update(leased_until=past)
    WebhookEndpoint.objects.exclude(lane_1_until=None).update(lane_1_until=past)
    WebhookEndpoint.objects.exclude(lane_2_until=None).update(lane_2_until=past)


@pytest.mark.django_db
class TestClaim:
    def test_takes_a_lane_for_twenty_deliveries_in_their_order(self, alice, hook):
        tell(alice, 25)

        [parcel] = deliveries.claim(5)

        assert [letter.told.data["number"] for letter in parcel.letters] == list(range(20))
        assert parcel.endpoint == hook
        hook.refresh_from_db()
        assert hook.lane_1_until == parcel.until == parcel.claimed_at + timedelta(seconds=60)
        assert set(WebhookDelivery.objects.values_list("lease", "leased_until").exclude(lease=None)) == {
            (parcel.lease, parcel.until)
        }

    def test_who_has_a_long_queue_takes_turns_with_others(self, alice, bob, hook):
        tell(alice, 60)
        [first] = deliveries.claim(1)
        deliveries.record([], returned=[Return(first, [letter.delivery_id for letter in first.letters])])
        other = make(bob)
        tell(bob)

        [second] = deliveries.claim(1)
        [third] = deliveries.claim(1)

        assert [parcel.endpoint for parcel in (first, second, third)] == [hook, other, hook]

    def test_takes_no_third_lane(self, alice, hook):
        tell(alice, 50)

        claims = [deliveries.claim(5) for _ in range(3)]

        assert [len(parcels) for parcels in claims] == [1, 1, 0]
        assert [parcels[0].lane for parcels in claims[:2]] == [1, 2]
        assert len({letter.delivery_id for parcels in claims[:2] for letter in parcels[0].letters}) == 40

    def test_takes_no_lane_when_nothing_is_left_for_it(self, alice, hook):
        tell(alice)

        deliveries.claim(5)

        assert deliveries.claim(5) == []
        hook.refresh_from_db()
        assert hook.lane_2_until is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"state": "disabled", "disabled_at": datetime.fromisoformat("2026-11-21T12:00:00Z")},
            {"held_until": datetime.fromisoformat("2999-01-01T00:00:00Z")},
        ],
        ids=["disabled", "held"],
    )
    def test_leaves_an_endpoint_alone(self, alice, hook, fields):
        tell(alice)
        WebhookEndpoint.objects.update(**fields)

        assert deliveries.claim(5) == []

    def test_leaves_what_is_due_later(self, alice, hook):
        tell(alice)
        WebhookDelivery.objects.update(next_attempt_at=clock.now() + timedelta(seconds=60))

        assert deliveries.claim(5) == []

    def test_takes_healthy_ones_first_and_few_that_are_doubtful(self, make_agent):
        agents = [make_agent(f"agent-{number}") for number in range(6)]
        failing = [make(agent, failing_since=clock.now()) for agent in agents[:3]]
        healthy = [make(agent) for agent in agents[3:]]
        for agent in agents:
            tell(agent)

        parcels = deliveries.claim(10, doubtful=2, slow=[healthy[0].pk])

        assert [parcel.endpoint for parcel in parcels] == [*healthy[1:], *failing[:2]]

    def test_looks_only_where_the_caller_says(self, alice, bob, carol):
        hooks = {agent: make(agent) for agent in (alice, bob, carol)}
        for agent in hooks:
            tell(agent)

        parcels = deliveries.claim(10, endpoints=[hooks[alice].pk], agents=[bob.pk])

        assert [parcel.endpoint for parcel in parcels] == [hooks[alice], hooks[bob]]
        assert [parcel.endpoint for parcel in deliveries.claim(10)] == [hooks[carol]]

    def test_gives_what_a_dead_worker_had_to_another(self, alice, hook):
        tell(alice)
        [dead] = deliveries.claim(1)
        lease_again()

        [parcel] = deliveries.claim(1)

        assert parcel.letters == dead.letters
        assert parcel.lease != dead.lease

    def test_tells_when_the_event_is_no_longer_kept(self, alice, hook):
        tell(alice)
        WebhookDelivery.objects.update(event_id=10**9)  # as when its month was dropped

        [parcel] = deliveries.claim(1)

        assert parcel.letters[0].told is None

    def test_looks_at_endpoints_and_not_at_their_rows(self, alice, bob, hook):
        make(bob)
        tell(alice)
        tell(bob)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO accounts_webhookdelivery (endpoint_id, event_id, event_epoch, event_recorded_at, type,"
                " next_attempt_at) SELECT %s, 1000000 + n, 1, now(), 'key.added', now() + interval '1 hour'"
                " FROM generate_series(1, 5000) n",
                [hook.pk],
            )
            cursor.execute("SET LOCAL enable_seqscan = off")
            before = index_rows_read(cursor)
            assert len(deliveries.claim(5)) == 2
            assert index_rows_read(cursor) - before < 1_000  # what earlier tests left in the index counts as well


def index_rows_read(cursor: Any) -> int:
    cursor.execute("SELECT pg_stat_get_xact_tuples_returned(indexrelid) FROM pg_index"
                   " WHERE indexrelid = 'webhook_delivery_due'::regclass")  # fmt: skip
    return cursor.fetchone()[0]


@pytest.mark.django_db
class TestWaiting:
    def test_counts_those_that_nobody_works_for(self, alice, bob, carol):
        for agent in (alice, bob, carol):
            make(agent)
            tell(agent)
        WebhookEndpoint.objects.filter(agent=carol).update(failing_since=clock.now())
        [parcel] = deliveries.claim(1)

        count, since = deliveries.waiting()

        assert parcel.endpoint.agent_id == alice.pk
        assert count == 1
        assert since == WebhookDelivery.objects.get(endpoint__agent=bob).next_attempt_at

    def test_is_nothing_when_all_is_well(self, alice, hook):
        assert deliveries.waiting() == (0, None)


@pytest.mark.django_db
class TestRecord:
    def test_a_success_ends_the_delivery_and_the_failing(self, alice, hook):
        tell(alice)
        WebhookEndpoint.objects.update(failing_since=clock.now())

        delivery = attempt(status=204)

        assert (delivery.state, delivery.attempts, delivery.last_status) == (State.DELIVERED, 1, 204)
        assert delivery.delivered_at == delivery.last_attempt_at
        assert delivery.lease is None
        hook.refresh_from_db()
        assert (hook.failing_since, hook.lane_1_until) == (None, delivery.last_attempt_at)
        assert hook.last_success_at == delivery.delivered_at

    @pytest.mark.parametrize(
        "said",
        [
            *({"status": status} for status in (500, 302, 404, 199)),
            *({"error": word} for word in ("timeout", "blocked_address")),
        ],
        ids=str,
    )
    def test_anything_else_is_a_failure(self, alice, hook, said):
        tell(alice)

        delivery = attempt(**said)

        assert (delivery.state, delivery.attempts, delivery.tries) == (State.PENDING, 1, 1)
        assert (delivery.last_status, delivery.last_error) == (said.get("status"), said.get("error", ""))
        hook.refresh_from_db()
        assert hook.failing_since == delivery.last_attempt_at

    def test_failing_began_with_the_first_failure(self, alice, hook):
        tell(alice)
        attempt(status=500)
        hook.refresh_from_db()
        first = hook.failing_since
        make_due()

        attempt(status=500)

        hook.refresh_from_db()
        assert hook.failing_since == first

    def test_ten_attempts_are_made_by_the_schedule(self, alice, hook):
        tell(alice)

        for seconds in SECONDS_BEFORE[1:]:
            delivery = attempt(status=500)
            assert delivery.state == State.PENDING
            wait = (delivery.next_attempt_at - delivery.last_attempt_at).total_seconds()
            assert 0.8 * seconds <= wait <= 1.2 * seconds
            make_due()
        delivery = attempt(status=500)

        assert (delivery.state, delivery.attempts) == (State.FAILED, 10)
        assert deliveries.claim(5) == []

    def test_waits_vary_by_a_fifth_either_way(self, alice, hook):
        tell(alice, 500)
        WebhookDelivery.objects.update(tries=2, attempts=2)
        parcels = []
        while claimed := deliveries.claim(1):
            parcels += claimed
            WebhookEndpoint.objects.update(lane_1_until=None)
        deliveries.record([answer(parcel, number, status=500) for parcel in parcels for number in range(20)])

        waits = sorted(
            (delivery.next_attempt_at - delivery.last_attempt_at).total_seconds()
            for delivery in WebhookDelivery.objects.all()
        )

        assert 1440 <= waits[0] < 1500
        assert 2100 < waits[-1] <= 2160
        assert 1750 < waits[250] < 1850

    def test_gone_ends_the_delivery_and_the_endpoint(self, alice, hook):
        tell(alice, 2)

        delivery = attempt(status=410)

        assert (delivery.state, delivery.last_status) == (State.FAILED, 410)
        hook.refresh_from_db()
        assert (hook.state, hook.disabled_reason) == ("disabled", webhooks.GONE)
        assert not WebhookDelivery.objects.filter(state=State.PENDING).exists()

    def test_gone_is_recorded_with_the_end_of_the_endpoint_or_not_at_all(self, alice, hook, monkeypatch):
        monkeypatch.setattr(webhooks, "disable", broken)
        tell(alice)
        [parcel] = deliveries.claim(1)

        with pytest.raises(ValueError, match="a bug"):
            deliveries.record([answer(parcel, status=410)])

        delivery = WebhookDelivery.objects.get()
        assert (delivery.state, delivery.lease, delivery.attempts) == (State.PENDING, parcel.lease, 0)

    def test_gone_says_nothing_about_an_endpoint_that_was_changed_meanwhile(self, alice, hook):
        tell(alice)
        [parcel] = deliveries.claim(1)
        WebhookEndpoint.objects.update(revision=2)

        [standing] = deliveries.record([answer(parcel, status=410)])

        hook.refresh_from_db()
        assert hook.state == "enabled"
        assert standing.revision == 2

    @pytest.mark.parametrize("status", [429, 503])
    def test_patience_is_given_to_the_delivery_and_the_endpoint(self, alice, hook, status):
        tell(alice, 2)

        delivery = attempt(status=status, retry_after_seconds=3_600)

        hour = delivery.last_attempt_at + timedelta(hours=1)
        hook.refresh_from_db()
        assert delivery.next_attempt_at == hook.held_until == hour
        lease_again()
        assert deliveries.claim(5) == []

    def test_patience_does_not_shorten_the_schedule(self, alice, hook):
        tell(alice)
        WebhookDelivery.objects.update(tries=3, attempts=3)

        delivery = attempt(status=429, retry_after_seconds=60)

        assert delivery.next_attempt_at - delivery.last_attempt_at >= timedelta(seconds=0.8 * 7_200)

    def test_patience_has_an_end(self, alice, hook):
        tell(alice)

        delivery = attempt(status=503, retry_after_seconds=10**7)

        assert delivery.next_attempt_at - delivery.last_attempt_at == timedelta(hours=24)

    def test_patience_is_for_429_and_503_alone(self, alice, hook):
        tell(alice)

        attempt(status=500, retry_after_seconds=3_600)

        hook.refresh_from_db()
        assert hook.held_until is None

    def test_five_days_of_failure_disable(self, alice, hook):
        tell(alice)
        WebhookEndpoint.objects.update(failing_since=clock.now() - timedelta(days=5))

        attempt(status=500)

        hook.refresh_from_db()
        assert (hook.state, hook.disabled_reason) == ("disabled", webhooks.FAILING)

    def test_less_than_five_days_do_not(self, alice, hook):
        tell(alice)
        WebhookEndpoint.objects.update(failing_since=clock.now() - timedelta(days=5) + timedelta(minutes=1))

        attempt(status=500)

        hook.refresh_from_db()
        assert hook.state == "enabled"

    def test_a_success_after_five_days_does_not(self, alice, hook):
        tell(alice)
        WebhookEndpoint.objects.update(failing_since=clock.now() - timedelta(days=6))

        attempt(status=200)

        hook.refresh_from_db()
        assert (hook.state, hook.failing_since) == ("enabled", None)

    def test_a_lost_lease_records_nothing(self, alice, hook):
        tell(alice)
        [dead] = deliveries.claim(1)
        lease_again()
        [parcel] = deliveries.claim(1)

        deliveries.record([answer(dead, status=500)], returned=[Return(dead)])

        hook.refresh_from_db()
        delivery = WebhookDelivery.objects.get()
        assert (delivery.attempts, delivery.lease, delivery.state) == (0, parcel.lease, State.PENDING)
        assert (hook.lane_1_until, hook.failing_since) == (parcel.until, None)
        deliveries.record([answer(parcel, status=200)])
        assert WebhookDelivery.objects.get().state == State.DELIVERED

    def test_what_was_not_sent_is_due_again_at_once(self, alice, hook):
        tell(alice, 3)
        [parcel] = deliveries.claim(1)
        _sent, *unsent = [letter.delivery_id for letter in parcel.letters]

        deliveries.record([answer(parcel, status=200)], returned=[Return(parcel, unsent)])

        [again] = deliveries.claim(1)
        assert [letter.delivery_id for letter in again.letters] == unsent
        assert set(WebhookDelivery.objects.values_list("attempts", flat=True)) == {0, 1}

    def test_a_worker_gives_back_only_what_is_its_own(self, alice, hook):
        tell(alice)
        [dead] = deliveries.claim(1)
        lease_again()
        [parcel] = deliveries.claim(1)

        deliveries.record([], returned=[Return(dead, [dead.letters[0].delivery_id])])

        assert WebhookDelivery.objects.get().lease == parcel.lease

    def test_an_event_that_is_gone_is_no_failure_of_the_receiver(self, alice, hook):
        tell(alice)

        delivery = attempt(error="expired")

        assert (delivery.state, delivery.last_error, delivery.attempts) == (State.FAILED, "expired", 0)
        hook.refresh_from_db()
        assert hook.failing_since is None

    def test_the_last_answer_of_a_batch_says_how_the_receiver_is(self, alice, hook):
        tell(alice, 3)
        [parcel] = deliveries.claim(1)

        deliveries.record([answer(parcel, 0, status=500), answer(parcel, 1, status=200)])
        hook.refresh_from_db()
        well = hook.failing_since
        deliveries.record([answer(parcel, 2, status=500)])

        hook.refresh_from_db()
        assert well is None
        assert hook.failing_since is not None


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_many_workers_claim_each_delivery_once_on_two_lanes(self, alice, bob, race):
        hooks = [make(alice), make(bob)]
        tell(alice, 100)
        tell(bob, 100)

        for _ in range(6):
            claims: list[list[Parcel]] = race(*[worker(3)] * 8)
            parcels = [parcel for claimed in claims for parcel in claimed]
            leased = [letter.delivery_id for parcel in parcels for letter in parcel.letters]
            assert len(leased) == len(set(leased))
            for hook in hooks:
                assert sorted(parcel.lane for parcel in parcels if parcel.endpoint == hook) in ([], [1], [1, 2])
            deliveries.record(
                [Result(parcel, letter.delivery_id, status=200) for parcel in parcels for letter in parcel.letters],
                returned=[Return(parcel) for parcel in parcels],
            )

        assert not WebhookDelivery.objects.exclude(attempts__in=[0, 1]).exists()
        assert WebhookDelivery.objects.filter(state=State.DELIVERED).count() == 200

    def test_recording_and_claiming_at_once_loses_nothing(self, alice, bob, carol, race):
        for agent in (alice, bob, carol):
            make(agent)
            tell(agent, 60)

        sent = race(*[work] * 8)

        assert not [error for error in sent if isinstance(error, Exception)]
        assert sum(sent) == 180
        assert set(WebhookDelivery.objects.values_list("state", "attempts")) == {(State.DELIVERED, 1)}
        assert not WebhookEndpoint.objects.filter(HELD).exists()

    def test_recording_and_disabling_at_once_waits_in_one_order(self, alice, race, monkeypatch):
        monkeypatch.setattr(deliveries, "retrying", lambda work: work())  # which would hide a deadlock
        hooks = [make(alice) for _ in range(4)]

        for _ in range(8):
            tell(alice, 10)
            parcels = deliveries.claim(4)
            assert len(parcels) == 4
            outcomes = race(
                *(partial(deliveries.record, answers(parcel), returned=[Return(parcel)]) for parcel in parcels),
                *(partial(webhooks.change, hook.pk, agent=alice, state="disabled") for hook in hooks),
            )
            assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
            for hook in hooks:
                webhooks.change(hook.pk, agent=alice, state="enabled")


def broken(*_: Any, **__: Any) -> None:
    raise ValueError("a bug")


def answers(parcel: Parcel) -> list[Result]:
    return [Result(parcel, letter.delivery_id, status=500) for letter in parcel.letters]


def worker(times: int) -> Callable[[], list[Parcel]]:
    return lambda: [parcel for _ in range(times) for parcel in deliveries.claim(5)]


def work() -> int:
    """Claim and record until nothing is there twenty times in a row."""
    sent = quiet = 0
    while quiet < 20:
        parcels = deliveries.claim(2)
        quiet = 0 if parcels else quiet + 1
        results = [Result(parcel, letter.delivery_id, status=200) for parcel in parcels for letter in parcel.letters]
        deliveries.record(results, returned=[Return(parcel) for parcel in parcels])
        sent += len(results)
    return sent
