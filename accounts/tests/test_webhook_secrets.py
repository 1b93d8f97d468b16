import base64
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from standardwebhooks import Webhook, WebhookVerificationError

from accounts import ids
from accounts.events import secrets
from accounts.models import WebhookEndpoint

BODY = json.dumps({"id": "7", "type": "job.funded", "data": {"title": "Übersetzung ✓"}}).encode()
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def endpoint():
    return WebhookEndpoint(id=ids.uuid7(), secret_generation=1)


def signed(endpoint, *, at=AT, body=BODY):
    return secrets.headers(endpoint, message_id="evt_1_7", body=body, at=at)


class TestOf:
    def test_is_what_standard_webhooks_calls_a_secret(self, endpoint):
        secret = secrets.of(endpoint, 1)

        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32

    def test_is_the_same_each_time_and_another_elsewhere(self, endpoint, settings):
        other = WebhookEndpoint(id=ids.uuid7(), secret_generation=1)
        secret = secrets.of(endpoint, 1)

        assert secrets.of(endpoint, 1) == secret
        assert len({secret, secrets.of(endpoint, 2), secrets.of(endpoint, 11), secrets.of(other, 1)}) == 4
        settings.WEBHOOK_KEY = "another"
        assert secrets.of(endpoint, 1) != secret

    def test_is_in_no_column(self, endpoint):
        secret = secrets.of(endpoint, 1)

        said = repr([getattr(endpoint, field.attname) for field in WebhookEndpoint._meta.concrete_fields])
        assert secret.removeprefix("whsec_") not in said + str(endpoint)


class TestMessageId:
    def test_names_the_event_and_nothing_of_the_attempt(self):
        assert secrets.message_id(epoch=2, event_id=1077) == "evt_2_1077"


class TestHeaders:
    @time_machine.travel(AT)
    def test_are_verified_by_the_reference_library(self, endpoint):
        receiver = Webhook(secrets.of(endpoint, 1))

        assert receiver.verify(BODY, signed(endpoint)) == json.loads(BODY)

    @time_machine.travel(AT)
    @pytest.mark.parametrize(
        ("name", "value"),
        [("webhook-id", "evt_1_8"), ("webhook-timestamp", str(int(AT.timestamp()) + 1)), ("webhook-signature", "v1,")],
    )
    def test_hold_for_this_message_alone(self, endpoint, name, value):
        with pytest.raises(WebhookVerificationError):
            Webhook(secrets.of(endpoint, 1)).verify(BODY, signed(endpoint) | {name: value})

    @time_machine.travel(AT)
    def test_hold_for_this_body_alone(self, endpoint):
        with pytest.raises(WebhookVerificationError):
            Webhook(secrets.of(endpoint, 1)).verify(BODY.replace(b"7", b"8", 1), signed(endpoint))

    @pytest.mark.parametrize("minutes", [-6, 6])
    def test_are_old_after_five_minutes(self, endpoint, minutes):
        with time_machine.travel(AT + timedelta(minutes=minutes)), pytest.raises(WebhookVerificationError):
            Webhook(secrets.of(endpoint, 1)).verify(BODY, signed(endpoint))

    def test_carry_both_signatures_while_a_rotation_overlaps(self, endpoint):
        endpoint.secret_generation, endpoint.previous_secret_until = 4, AT + timedelta(hours=24)
        last = AT + timedelta(hours=24) - timedelta(microseconds=1)

        for at in (AT, last):
            with time_machine.travel(at):
                found = signed(endpoint, at=at)
                assert len(found["webhook-signature"].split(" ")) == 2
                for generation in (4, 3):
                    Webhook(secrets.of(endpoint, generation)).verify(BODY, found)
                for generation in (5, 2):
                    with pytest.raises(WebhookVerificationError):
                        Webhook(secrets.of(endpoint, generation)).verify(BODY, found)

    def test_carry_one_when_the_overlap_is_over(self, endpoint):
        endpoint.secret_generation, endpoint.previous_secret_until = 2, AT

        with time_machine.travel(AT):
            found = signed(endpoint)
            assert len(found["webhook-signature"].split(" ")) == 1
            Webhook(secrets.of(endpoint, 2)).verify(BODY, found)
            with pytest.raises(WebhookVerificationError):
                Webhook(secrets.of(endpoint, 1)).verify(BODY, found)
