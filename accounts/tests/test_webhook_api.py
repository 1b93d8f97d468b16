"""Webhook endpoints over HTTP: shapes, refusals, what strangers see, and what a call costs."""

import re
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import clock, ids
from accounts.events import feed, log, redeliveries, rendering, webhooks
from accounts.models import Event, WebhookDelivery, WebhookEndpoint

pytestmark = pytest.mark.django_db

URL = "https://receiver.example/hook"
ENDPOINT = {
    *("id", "url", "event_types", "status", "created_at", "disabled_at", "disabled_reason"),
    *("failing_since", "last_success_at", "previous_secret_until"),
}
DELIVERY = {
    *("id", "event_id", "message_id", "type", "status", "attempts", "next_attempt_at", "last_attempt_at"),
    *("last_status", "last_error", "delivered_at", "created_at"),
}


@pytest.fixture
def api(alice, client_for):
    return client_for(alice)


@pytest.fixture
def endpoint(alice):
    return webhooks.create(alice.pk, url=URL).endpoint


def tell(agent, times=1):
    for _ in range(times):
        log.record("job.funded", to=[agent.pk], data={}, at=clock.now())


class TestEndpoints:
    def test_are_created_listed_read_changed_and_deleted(self, api):
        created = api.post("/webhook-endpoints", {"url": URL, "event_types": ["job.funded"]})

        assert created.status_code == 201
        shown = created.json()
        assert set(shown) == ENDPOINT | {"secret"}
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", shown.pop("secret"))
        assert (shown["url"], shown["event_types"], shown["status"]) == (URL, ["job.funded"], "enabled")
        assert api.get("/webhook-endpoints").json() == {"data": [shown], "next_cursor": None}
        at = f"/webhook-endpoints/{shown['id']}"
        assert api.get(at).json() == shown
        changed = api.patch(at, {"status": "disabled", "event_types": []}).json()
        assert (changed["status"], changed["disabled_reason"], changed["event_types"]) == ("disabled", "by_agent", [])
        assert changed["disabled_at"] is not None
        assert api.patch(at, {"status": "enabled"}).json() == shown | {"event_types": []}
        assert api.delete(at).status_code == 204
        assert (api.get(at).status_code, api.delete(at).status_code) == (404, 404)
        assert api.get("/webhook-endpoints").json()["data"] == []

    def test_are_listed_in_pages(self, api, alice):
        made = [str(webhooks.create(alice.pk, url=URL).endpoint.pk) for _ in range(3)]

        first = api.get("/webhook-endpoints", limit=2).json()
        second = api.get("/webhook-endpoints", limit=2, cursor=first["next_cursor"]).json()

        assert [row["id"] for row in first["data"] + second["data"]] == made[::-1]
        assert second["next_cursor"] is None

    def test_replay_an_answer_without_the_secret(self, api):
        first = api.post("/webhook-endpoints", {"url": URL}, key="one")
        again = api.post("/webhook-endpoints", {"url": URL}, key="one")

        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == first.json() | {"secret": None}
        assert WebhookEndpoint.objects.count() == 1
        other = api.post("/webhook-endpoints", {"url": URL + "/2"}, key="one")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        with connection.cursor() as cursor:
            cursor.execute("SELECT string_agg(answer, '') FROM accounts_idempotencyrecord")
            assert "whsec_" not in cursor.fetchone()[0]

    def test_end_at_the_limit(self, api, settings):
        settings.WEBHOOK_ENDPOINTS_PER_AGENT = 1
        api.post("/webhook-endpoints", {"url": URL})

        refused = api.post("/webhook-endpoints", {"url": URL})

        assert refused.status_code == 409
        assert (refused.json()["code"], refused.json()["limit"]) == ("too_many_webhook_endpoints", 1)

    @pytest.mark.parametrize(
        ("body", "pointer", "code"),
        [
            ({}, "/url", "required"),
            ({"url": None}, "/url", "null"),
            ({"url": 7}, "/url", "invalid"),
            ({"url": ""}, "/url", "blank"),
            ({"url": "https://receiver.example/" + "a" * 2_024}, "/url", "max_length"),
            ({"url": "ftp://receiver.example/"}, "/url", "bad_url"),
            ({"url": "https://127.0.0.1/"}, "/url", "blocked_address"),
            ({"url": URL, "event_types": ["job.invented"]}, "/event_types/0", "invalid_choice"),
            ({"url": URL, "event_types": "job.funded"}, "/event_types", "not_a_list"),
            ({"url": URL, "event_types": ["key.added"] * 51}, "/event_types", "max_length"),
            ({"url": URL, "secret": "whsec_x"}, "/secret", "unknown_field"),
            ({"url": URL, "status": "disabled"}, "/status", "unknown_field"),
        ],
    )
    def test_refuse_a_wrong_body(self, api, settings, body, pointer, code):
        settings.EGRESS_LOOPBACK = False

        refused = api.post("/webhook-endpoints", body)

        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
        assert (pointer, code) in [(error["pointer"], error["code"]) for error in refused.json()["errors"]]
        assert not WebhookEndpoint.objects.exists()

    @pytest.mark.parametrize("body", [{"status": "deleted"}, {"status": 1}, {"url": "x"}, {"agent": "x"}, []])
    def test_refuse_a_wrong_change(self, api, endpoint, body):
        refused = api.patch(f"/webhook-endpoints/{endpoint.pk}", body)

        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


class TestRotation:
    def test_shows_the_new_secret_once(self, api, endpoint):
        rotated = api.post(f"/webhook-endpoints/{endpoint.pk}/secret-rotation", key="one")
        again = api.post(f"/webhook-endpoints/{endpoint.pk}/secret-rotation", key="one")

        assert rotated.status_code == 200
        assert set(rotated.json()) == ENDPOINT | {"secret"}
        assert rotated.json()["previous_secret_until"] is not None
        assert again.json() == rotated.json() | {"secret": None}
        assert WebhookEndpoint.objects.get().secret_generation == 2


class TestDeliveries:
    def test_name_their_event_as_events_does(self, api, endpoint):
        tested = api.post(f"/webhook-endpoints/{endpoint.pk}/test")

        assert tested.status_code == 201
        assert set(tested.json()) == DELIVERY
        assert api.get(f"/webhook-endpoints/{endpoint.pk}/deliveries").json() == {
            "data": [tested.json()], "next_cursor": None,
        }  # fmt: skip
        row = WebhookDelivery.objects.get()
        event = rendering.shown(feed.find(row.event_id, row.event_epoch, row.event_recorded_at))
        assert (tested.json()["event_id"], tested.json()["type"]) == (event["id"], event["type"])
        assert tested.json()["message_id"] == f"evt_{row.event_epoch}_{event['id']}"
        assert (tested.json()["status"], tested.json()["attempts"]) == ("pending", 0)

    def test_are_listed_newest_first_in_pages_and_by_status(self, api, alice, endpoint):
        tell(alice, times=5)
        newest = [str(pk) for pk in WebhookDelivery.objects.order_by("-id").values_list("pk", flat=True)]
        WebhookDelivery.objects.filter(pk=newest[1]).update(state="failed", last_error="timeout", last_status=None)
        at = f"/webhook-endpoints/{endpoint.pk}/deliveries"

        seen, cursor = [], {}
        while cursor is not None:
            page = api.get(at, limit=2, **cursor).json()
            seen += [row["id"] for row in page["data"]]
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
            if len(seen) == 2:
                tell(alice)  # what comes meanwhile moves nothing

        assert seen == newest
        (failed,) = api.get(at, status="failed").json()["data"]
        assert (failed["id"], failed["last_error"], failed["next_attempt_at"]) == (newest[1], "timeout", None)
        assert api.get(at, status="lost").json()["errors"][0]["pointer"] == "/status"

    def test_are_sent_once_more(self, api, alice, endpoint):
        tell(alice)
        WebhookDelivery.objects.update(state="failed", last_status=500, attempts=10, tries=10)
        delivery = WebhookDelivery.objects.get()

        again = api.post(f"/webhook-deliveries/{delivery.pk}/redelivery")

        assert again.status_code == 200
        assert (again.json()["status"], again.json()["attempts"], again.json()["last_status"]) == ("pending", 10, 500)
        WebhookDelivery.objects.update(lease=ids.uuid7(), leased_until=clock.now() + webhooks.OVERLAP)
        refused = api.post(f"/webhook-deliveries/{delivery.pk}/redelivery")
        assert (refused.status_code, refused.json()["code"]) == (409, "delivery_in_flight")

    def test_are_sent_once_more_since_a_time(self, api, alice, endpoint, monkeypatch):
        tell(alice, times=3)
        since = Event.objects.filter(type="job.funded").earliest("id").recorded_at.isoformat()
        at = f"/webhook-endpoints/{endpoint.pk}/redeliveries"

        assert api.post(at, {"since": since}).json() == {"queued": 3, "complete": True, "next_since": None}
        monkeypatch.setattr(redeliveries, "since", partial(redeliveries.since, limit=2))
        first = api.post(at, {"since": since}).json()
        assert (first["queued"], first["complete"]) == (2, False)
        assert api.post(at, {"since": first["next_since"]}).json() == {
            "queued": 1, "complete": True, "next_since": None,
        }  # fmt: skip

    @pytest.mark.parametrize(
        "since",
        [
            *("2026-11-21", "2026-11-21T12:00:00", "2026-11-21 12:00:00Z", "2026-13-21T12:00:00Z", "now", "", 7, None),
            *(
                "0001-01-01T00:00:00+23:00",
                "9999-12-31T23:59:59-01:00",
                "2026-11-21T12:00:00+25:00",
                "2026-11-21T12:00Z",
            ),
        ],
    )
    def test_are_asked_for_since_a_time_of_rfc_3339(self, api, endpoint, since):
        refused = api.post(f"/webhook-endpoints/{endpoint.pk}/redeliveries", {"since": since})

        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == "/since"

    @pytest.mark.parametrize(
        "since",
        ["2026-11-21T12:00:00Z", "2026-11-21t12:00:00.123456789z", "0001-01-01T00:00:00Z", "2026-11-21T13:00:00+01:00"],
    )
    def test_take_any_time_of_rfc_3339(self, api, endpoint, since):
        assert api.post(f"/webhook-endpoints/{endpoint.pk}/redeliveries", {"since": since}).status_code == 200

    def test_of_a_disabled_endpoint_wait_until_it_is_enabled(self, api, alice, endpoint):
        tell(alice)
        delivery = WebhookDelivery.objects.get()
        api.patch(f"/webhook-endpoints/{endpoint.pk}", {"status": "disabled"})

        for refused in (
            api.post(f"/webhook-endpoints/{endpoint.pk}/test"),
            api.post(f"/webhook-endpoints/{endpoint.pk}/redeliveries", {"since": "2026-11-21T12:00:00Z"}),
            api.post(f"/webhook-deliveries/{delivery.pk}/redelivery"),
        ):
            assert (refused.status_code, refused.json()["code"]) == (409, "webhook_endpoint_disabled")
            assert refused.json()["disabled_reason"] == "by_agent"
        assert WebhookDelivery.objects.get().state == "failed"


class TestStrangers:
    def test_cannot_tell_a_foreign_id_from_an_unknown_one(self, bob, client_for, alice, endpoint):
        tell(alice)
        stranger = client_for(bob)
        delivery = WebhookDelivery.objects.get().pk

        def asked(endpoint_id, delivery_id):
            at = f"/webhook-endpoints/{endpoint_id}"
            answers = [
                stranger.get(at),
                stranger.patch(at, {"status": "disabled"}),
                stranger.delete(at),
                stranger.post(f"{at}/secret-rotation"),
                stranger.post(f"{at}/test"),
                stranger.get(f"{at}/deliveries"),
                stranger.post(f"{at}/redeliveries", {"since": "2026-11-21T12:00:00Z"}),
                stranger.post(f"/webhook-deliveries/{delivery_id}/redelivery"),
            ]
            return [
                (answer.status_code, {k: v for k, v in answer.json().items() if k != "request_id"})
                for answer in answers
            ]

        foreign = asked(endpoint.pk, delivery)

        assert foreign == asked(ids.uuid7(), ids.uuid7())
        assert {status for status, _ in foreign} == {404}
        assert stranger.get("/webhook-endpoints").json()["data"] == []
        endpoint.refresh_from_db()
        assert (endpoint.state, endpoint.secret_generation, endpoint.revision) == ("enabled", 1, 1)


class TestCost:
    """Statements, without those of the transaction and of the Idempotency-Key."""

    @pytest.mark.parametrize(
        ("method", "path", "body", "statements"),
        [
            ("get", "", None, 2),
            ("post", "", {"url": URL}, 6),
            ("get", "/{endpoint}", None, 2),
            ("patch", "/{endpoint}", {"event_types": ["key.added"]}, 6),
            ("delete", "/{endpoint}", None, 7),
            ("post", "/{endpoint}/secret-rotation", {}, 6),
            ("post", "/{endpoint}/test", {}, 5),
            ("get", "/{endpoint}/deliveries", None, 3),
            ("post", "/{endpoint}/redeliveries", {"since": "2026-11-21T12:00:00Z"}, 3),
            ("post", "-deliveries/{delivery}/redelivery", {}, 5),
        ],
    )
    def test_of_a_call_is_few_statements(self, api, alice, endpoint, method, path, body, statements):
        tell(alice, times=5)
        delivery = WebhookDelivery.objects.latest("id").pk
        at = f"/webhook{'' if path.startswith('-') else '-endpoints'}{path}"
        at = at.format(endpoint=endpoint.pk, delivery=delivery)

        with CaptureQueriesContext(
            connection,
        ) as asked:
            answer = api.get(at) if method == "get" else getattr(api, method)(at, body, key=None)

        assert answer.status_code < 300
        counted = [q["sql"] for q in asked if not re.match(r"(RELEASE )?SAVEPOINT|BEGIN|COMMIT", q["sql"])]
        assert len(counted) == statements, "\n".join(counted)
