"""Endpoints of webhooks: what agents may do with theirs, and what becomes of what is on its way."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from accounts import clock, ids
from accounts.errors import Invalid, NotFound
from accounts.events import log, secrets, types, webhooks
from accounts.models import Agent, AuditRecord, Event, WebhookDelivery, WebhookEndpoint

pytestmark = pytest.mark.django_db

URL = "https://receiver.example/hook/k3y-in-the-path"


@pytest.fixture
def endpoint(alice):
    return webhooks.create(alice.pk, url=URL).endpoint


def tell(*agents, kind="job.funded", **data):
    log.record(kind, to=[agent.pk for agent in agents], data=data, at=clock.now())


def stands(row):
    row.refresh_from_db()
    return row


def on_its_way(endpoint, **fields):
    """A delivery that a worker is sending right now."""
    row = {
        "event_id": 1,
        "event_epoch": 1,
        "event_recorded_at": clock.now(),
        "type": "job.funded",
        "lease": ids.uuid7(),
        "leased_until": clock.now() + timedelta(seconds=60),
    }
    return WebhookDelivery.objects.create(endpoint=endpoint, **row | fields)


class TestCreate:
    def test_tells_the_secret_once_and_keeps_none(self, alice):
        endpoint, secret = webhooks.create(alice.pk, url=URL, event_types=["job.funded", "job.funded", "job.agreed"])

        row = stands(endpoint)
        assert (row.url, row.event_types, row.state) == (URL, ["job.funded", "job.agreed"], "enabled")
        assert secret == secrets.of(row, 1)
        with connection.cursor() as cursor:
            for model in (WebhookEndpoint, AuditRecord, Event):
                cursor.execute(f"SELECT string_agg(t::text, ' ') FROM {model._meta.db_table} t")
                assert secret.removeprefix("whsec_") not in (cursor.fetchone()[0] or "")

    @pytest.mark.parametrize(
        ("url", "code"),
        [
            ("https://receiver.example/" + "a" * 2_024, "max_length"),
            ("http://receiver.example/", "bad_url"),
            ("https://10.0.0.1/", "blocked_address"),
            ("https://user@receiver.example/", "bad_url"),
            ("https://receiver.example:8080/", "bad_url"),
            ("file:///etc/passwd", "bad_url"),
            ("", "bad_url"),
        ],
    )
    def test_refuses_a_url_that_we_never_post_to(self, alice, settings, url, code):
        settings.EGRESS_LOOPBACK = False

        with pytest.raises(Invalid) as refusal:
            webhooks.create(alice.pk, url=url)

        (error,) = refusal.value.errors
        assert (error.pointer, error.code) == ("/url", code)
        assert not WebhookEndpoint.objects.exists()

    def test_takes_a_url_of_2048_characters(self, alice):
        url = "https://receiver.example/" + "a" * 2_023

        assert len(webhooks.create(alice.pk, url=url).endpoint.url) == 2_048

    @pytest.mark.parametrize(
        ("event_types", "code"),
        [
            (["job.funded", "job.invented"], "invalid_choice"),
            ([""], "invalid_choice"),
            (sorted(types.ALL)[:51], "too_many"),
        ],
    )
    def test_refuses_types_that_do_not_exist_and_too_many(self, alice, event_types, code):
        with pytest.raises(Invalid) as refusal:
            webhooks.create(alice.pk, url=URL, event_types=event_types)

        (error,) = refusal.value.errors
        assert (error.pointer, error.code) == ("/event_types", code)

    def test_takes_fifty_types(self, alice):
        assert len(webhooks.create(alice.pk, url=URL, event_types=sorted(types.ALL)[:50]).endpoint.event_types) == 50

    def test_ends_at_the_limit_of_which_disabled_ones_are_some(self, alice, bob, settings):
        settings.WEBHOOK_ENDPOINTS_PER_AGENT = 2
        first, second = (webhooks.create(alice.pk, url=URL).endpoint for _ in range(2))
        webhooks.change(first.pk, agent=alice, state="disabled")

        with pytest.raises(webhooks.TooManyEndpoints):
            webhooks.create(alice.pk, url=URL)
        webhooks.create(bob.pk, url=URL)
        webhooks.delete(second.pk, agent=alice)
        webhooks.create(alice.pk, url=URL)

    def test_is_written_down_without_the_path(self, alice, endpoint):
        record = AuditRecord.objects.get(action="webhook_endpoint.created")

        assert (record.agent, record.subject) == (alice, f"webhook_endpoint:{endpoint.pk}")
        assert record.facts == {"host": "receiver.example", "generation": 1}


class TestRecorded:
    """What `log.record` leaves for webhooks: with the change, or not at all."""

    def test_a_committed_change_leaves_an_event_and_a_delivery_of_one_id(self, alice, bob, endpoint):
        tell(alice, bob, job_id=str(ids.uuid7()))

        event = Event.objects.get(recipient=alice)
        delivery = WebhookDelivery.objects.get()
        assert (delivery.endpoint, delivery.state, delivery.tries) == (endpoint, "pending", 0)
        assert (delivery.event_id, delivery.event_epoch) == (event.pk, event.epoch)
        assert delivery.event_recorded_at == event.recorded_at

    def test_a_change_that_is_rolled_back_leaves_nothing(self, alice, endpoint):
        with transaction.atomic():
            tell(alice)
            assert WebhookDelivery.objects.exists()
            transaction.set_rollback(True)

        assert not Event.objects.exists()
        assert not WebhookDelivery.objects.exists()

    def test_goes_to_every_endpoint_that_asked_for_the_type(self, alice, endpoint):
        asked = webhooks.create(alice.pk, url=URL, event_types=["job.funded"]).endpoint
        webhooks.create(alice.pk, url=URL, event_types=["job.agreed"])
        off = webhooks.create(alice.pk, url=URL).endpoint
        webhooks.change(off.pk, agent=alice, state="disabled")
        gone = webhooks.create(alice.pk, url=URL).endpoint
        webhooks.delete(gone.pk, agent=alice)

        tell(alice)

        assert {row.endpoint_id for row in WebhookDelivery.objects.all()} == {endpoint.pk, asked.pk}
        assert len({row.event_id for row in WebhookDelivery.objects.all()}) == 1

    def test_costs_no_more_when_the_agent_has_deleted_thousands(self, alice, bob, endpoint):
        """What an agent left behind would slow down the money of those who work with it."""
        WebhookEndpoint.objects.bulk_create(
            WebhookEndpoint(agent=alice, url=URL, state="deleted", disabled_at=clock.now()) for _ in range(5_000)
        )
        asked = {
            "type": "job.funded",
            "at": clock.now(),
            "recipients": [alice.pk],
            "data": ["{}"],
            "subjects": [None],
        }
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE accounts_webhookendpoint")
            cursor.execute(f"EXPLAIN {log._RECORD}", asked)
            plan = "\n".join(line for (line,) in cursor.fetchall())

        assert "webhook_endpoint_told" in plan

    def test_goes_on_for_an_agent_that_is_gone(self, alice, endpoint):
        """What it left behind may still run, and it can stop us by 410."""
        Agent.objects.filter(pk=alice.pk).update(status=Agent.Status.DEACTIVATED)

        tell(alice, kind="dispute.ruled")

        assert WebhookDelivery.objects.get().endpoint == endpoint

    @profile(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        filters=st.lists(st.lists(st.sampled_from(sorted(types.ALL)), max_size=6), min_size=1, max_size=4),
        told=st.lists(st.sampled_from(sorted(types.ALL - {"webhook.test"})), min_size=1, max_size=6),
    )
    def test_each_endpoint_gets_what_its_filter_lets_pass_each_once(self, alice, bob, filters, told):
        with transaction.atomic():
            mine = [webhooks.create(alice.pk, url=URL, event_types=chosen).endpoint for chosen in filters]
            webhooks.create(bob.pk, url=URL)
            for kind in told:
                tell(alice, kind=kind)

            for endpoint, chosen in zip(mine, filters, strict=True):
                rows = WebhookDelivery.objects.filter(endpoint=endpoint).order_by("event_id")
                assert [row.type for row in rows] == [kind for kind in told if not chosen or kind in chosen]
            assert not WebhookDelivery.objects.filter(endpoint__agent=bob).exists()
            transaction.set_rollback(True)


class TestChange:
    def test_changes_only_what_is_given(self, alice, endpoint):
        changed = webhooks.change(endpoint.pk, agent=alice, event_types=["key.added"])

        assert (stands(changed).url, changed.event_types, changed.state) == (URL, ["key.added"], "enabled")
        assert webhooks.change(endpoint.pk, agent=alice, event_types=[]).event_types == []
        assert webhooks.change(endpoint.pk, agent=alice, url="https://other.example/").url == "https://other.example/"
        assert stands(endpoint).revision == 4

    def test_refuses_what_create_refuses(self, alice, endpoint):
        for given_ in ({"url": "gopher://receiver.example"}, {"event_types": ["job.invented"]}):
            with pytest.raises(Invalid):
                webhooks.change(endpoint.pk, agent=alice, **given_)

        assert stands(endpoint).url == URL

    def test_disabling_fails_what_is_pending_and_takes_it_from_its_worker(self, alice, endpoint):
        tell(alice)
        sent = on_its_way(endpoint)
        done = on_its_way(
            endpoint, event_id=2, lease=None, leased_until=None, state="delivered", delivered_at=clock.now()
        )

        webhooks.change(endpoint.pk, agent=alice, state="disabled")

        assert stands(endpoint).disabled_reason == "by_agent"
        assert endpoint.tell_owner_at is None
        assert {(row.state, row.last_error) for row in WebhookDelivery.objects.exclude(pk=done.pk)} == {
            ("failed", "endpoint_disabled")
        }
        assert stands(sent).lease is None
        assert stands(done).state == "delivered"
        assert not Event.objects.filter(type="webhook.disabled").exists()

    def test_enabling_begins_anew(self, alice, endpoint):
        at = clock.now()
        webhooks.disable(endpoint.pk, reason="failing", at=at)
        WebhookEndpoint.objects.update(failing_since=at - timedelta(days=6), held_until=at + timedelta(hours=1))

        webhooks.change(endpoint.pk, agent=alice, state="enabled")

        row = stands(endpoint)
        assert (row.state, row.disabled_at, row.disabled_reason, row.tell_owner_at) == ("enabled", None, "", None)
        assert (row.failing_since, row.held_until) == (None, None)

    def test_another_receiver_is_not_judged_by_the_one_before(self, alice, endpoint):
        at = clock.now()
        WebhookEndpoint.objects.update(failing_since=at - timedelta(days=6), held_until=at + timedelta(hours=1))
        sent = on_its_way(endpoint)

        webhooks.change(endpoint.pk, agent=alice, url="https://other.example/")

        assert (stands(endpoint).failing_since, endpoint.held_until) == (None, None)
        assert (stands(sent).state, sent.lease, sent.leased_until) == ("pending", None, None)

    def test_the_same_again_changes_nothing_of_its_health(self, alice, endpoint):
        since = clock.now() - timedelta(days=1)
        WebhookEndpoint.objects.update(failing_since=since)

        webhooks.change(endpoint.pk, agent=alice, url=URL, state="enabled")

        assert stands(endpoint).failing_since == since


class TestDelete:
    def test_keeps_the_row_and_ends_what_is_pending(self, alice, endpoint):
        tell(alice)

        webhooks.delete(endpoint.pk, agent=alice)

        assert stands(endpoint).state == "deleted"
        assert (WebhookDelivery.objects.get().state, WebhookDelivery.objects.get().last_error) == (
            "failed",
            "endpoint_deleted",
        )
        with pytest.raises(NotFound):
            webhooks.find(endpoint.pk, agent=alice)
        with pytest.raises(NotFound):
            webhooks.delete(endpoint.pk, agent=alice)


class TestRotate:
    def test_lets_two_generations_sign_for_a_day(self, alice, endpoint, noon):
        told = webhooks.rotate(endpoint.pk, agent=alice, at=noon)

        row = stands(endpoint)
        assert told.secret == secrets.of(row, 2) != secrets.of(row, 1)
        assert (row.secret_generation, row.previous_secret_until) == (2, noon + timedelta(hours=24))

    def test_again_within_the_day_ends_the_oldest_now(self, alice, endpoint, noon):
        webhooks.rotate(endpoint.pk, agent=alice, at=noon)

        webhooks.rotate(endpoint.pk, agent=alice, at=noon + timedelta(hours=1))

        row = stands(endpoint)
        at = noon + timedelta(hours=2)
        found = secrets.headers(row, message_id="evt_1_1", body=b"{}", at=at)["webhook-signature"].split()
        assert (row.secret_generation, len(found)) == (3, 2)
        assert row.previous_secret_until == noon + timedelta(hours=25)


class TestSendTest:
    def test_goes_to_this_endpoint_alone_whatever_its_filter(self, alice, endpoint):
        other = webhooks.create(alice.pk, url=URL, event_types=["key.added"]).endpoint

        delivery = webhooks.send_test(other.pk, agent=alice)

        assert (delivery.endpoint, delivery.type, delivery.state) == (other, "webhook.test", "pending")
        assert WebhookDelivery.objects.count() == 1
        event = Event.objects.get(pk=delivery.event_id)
        assert (event.recipient, event.data) == (alice, {"endpoint_id": str(other.pk)})

    def test_each_is_another_event(self, alice, endpoint):
        first, second = (webhooks.send_test(endpoint.pk, agent=alice) for _ in range(2))

        assert first.event_id < second.event_id

    def test_is_refused_by_a_disabled_endpoint(self, alice, endpoint):
        webhooks.change(endpoint.pk, agent=alice, state="disabled")

        with pytest.raises(webhooks.EndpointDisabled):
            webhooks.send_test(endpoint.pk, agent=alice)

        assert not Event.objects.exists()


class TestDisable:
    def test_tells_the_agent_through_its_other_endpoints(self, alice, endpoint, noon):
        other = webhooks.create(alice.pk, url=URL).endpoint
        tell(alice)

        webhooks.disable(endpoint.pk, reason="gone", at=noon)

        row = stands(endpoint)
        assert (row.state, row.disabled_at, row.disabled_reason, row.tell_owner_at) == ("disabled", noon, "gone", noon)
        event = Event.objects.get(type="webhook.disabled")
        assert (event.recipient, event.data) == (alice, {"endpoint_id": str(endpoint.pk), "reason": "gone"})
        assert WebhookDelivery.objects.get(event_id=event.pk).endpoint == other
        assert WebhookDelivery.objects.get(endpoint=endpoint).last_error == "endpoint_disabled"

    def test_happens_once(self, endpoint, noon):
        webhooks.disable(endpoint.pk, reason="gone", at=noon)
        webhooks.disable(endpoint.pk, reason="failing", at=noon + timedelta(hours=1))

        assert (stands(endpoint).disabled_reason, endpoint.disabled_at) == ("gone", noon)
        assert Event.objects.filter(type="webhook.disabled").count() == 1

    def test_spares_what_was_changed_since(self, alice, endpoint, noon):
        before = endpoint.revision
        webhooks.change(endpoint.pk, agent=alice, url="https://other.example/")

        webhooks.disable(endpoint.pk, reason="gone", at=noon, revision=before)

        assert stands(endpoint).state == "enabled"
        webhooks.disable(endpoint.pk, reason="gone", at=noon, revision=endpoint.revision)
        assert stands(endpoint).state == "disabled"


class TestStrangers:
    @pytest.mark.parametrize(
        "act",
        [
            webhooks.find,
            webhooks.locked,
            webhooks.change,
            webhooks.delete,
            webhooks.rotate,
            webhooks.send_test,
        ],
    )
    def test_a_foreign_endpoint_is_not_there(self, bob, endpoint, act):
        with pytest.raises(NotFound):
            act(endpoint.pk, agent=bob)
        with pytest.raises(NotFound):
            act(ids.uuid7(), agent=bob)

        assert (stands(endpoint).state, endpoint.secret_generation) == ("enabled", 1)


class TestHealth:
    def test_is_empty_at_first_and_one_statement(self, django_assert_num_queries):
        with django_assert_num_queries(1):
            found = webhooks.health()

        assert found == {"enabled": 0, "failing": 0, "disabled": 0, "pending": 0, "due": 0, "oldest_due_at": None}

    def test_counts_what_should_have_been_sent(self, alice, bob):
        well, failing, patient, off, gone = (webhooks.create(alice.pk, url=URL).endpoint for _ in range(5))
        at = clock.now()
        webhooks.change(off.pk, agent=alice, state="disabled")
        webhooks.delete(gone.pk, agent=alice)
        WebhookEndpoint.objects.filter(pk=failing.pk).update(failing_since=at)
        WebhookEndpoint.objects.filter(pk=patient.pk).update(held_until=at + timedelta(hours=1))
        free = {"lease": None, "leased_until": None}
        hour_ago, two = at - timedelta(hours=1), at - timedelta(hours=2)
        on_its_way(well, next_attempt_at=hour_ago, **free)
        on_its_way(well, event_id=2, next_attempt_at=at + timedelta(hours=1), **free)
        on_its_way(well, event_id=3, next_attempt_at=two)
        on_its_way(failing, next_attempt_at=at - timedelta(minutes=1), **free)
        on_its_way(patient, next_attempt_at=two, **free)
        on_its_way(well, event_id=4, next_attempt_at=two, state="delivered", delivered_at=at, **free)

        found = webhooks.health()

        assert found == {
            "enabled": 3, "failing": 1, "disabled": 1, "pending": 5, "due": 2, "oldest_due_at": hour_ago,
        }  # fmt: skip
