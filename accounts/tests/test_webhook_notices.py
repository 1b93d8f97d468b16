"""Owners hear that we stopped sending to an endpoint of their agent's: each once, and none is lost."""

from datetime import timedelta

import pytest
from django.core import mail
from django.core.mail.backends import locmem

from accounts import clock, tasks
from accounts.events import notices, webhooks
from accounts.models import User, WebhookEndpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(alice):
    owner = User.objects.create(username="anna", email="anna@example.org")
    alice.owner = owner
    alice.save(update_fields=["owner"])
    return owner


@pytest.fixture
def disabled(alice):
    endpoint = webhooks.create(alice.pk, url="https://receiver.example/hook/k3y-in-the-path").endpoint
    return webhooks.disable(endpoint.pk, reason="gone", at=clock.now())


class Broken(locmem.EmailBackend):
    """A server that takes no mail, and says in its words what nobody is to log."""

    def send_messages(self, messages):
        raise OSError("anna@example.org refused, password hunter2")


class TestTellDue:
    def test_says_what_happened_and_what_to_do(self, owner, disabled):
        assert notices.tell_due() == 1

        (message,) = mail.outbox
        assert message.to == ["anna@example.org"]
        assert message.subject == "[Bailee] alice: a webhook endpoint is disabled"
        assert "at receiver.example: its receiver answered 410 Gone." in message.body
        assert str(disabled.pk) in message.body
        assert "k3y-in-the-path" not in message.body

    def test_is_counted_until_it_is_said(self, owner, disabled):
        assert notices.waiting() == (1, disabled.disabled_at)
        tasks.tell_owners()

        assert notices.waiting() == (0, None)
        assert len(mail.outbox) == 1

    def test_says_it_once(self, owner, disabled):
        assert [notices.tell_due() for _ in range(2)] == [1, 0]
        assert len(mail.outbox) == 1

    def test_tries_again_what_was_not_sent(self, owner, disabled, settings, caplog):
        settings.EMAIL_BACKEND = f"{__name__}.Broken"
        assert notices.tell_due() == 0
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

        assert notices.tell_due() == 0, "it is somebody's until the lease is over"
        WebhookEndpoint.objects.update(tell_owner_at=clock.now())
        assert notices.tell_due() == 1
        assert "owner_not_mailed" in caplog.text
        assert "anna" not in caplog.text
        assert "hunter2" not in caplog.text

    def test_is_no_ones_who_has_no_address(self, alice, disabled, owner):
        owner.email = ""
        owner.save(update_fields=["email"])

        assert notices.tell_due() == 0
        assert WebhookEndpoint.objects.get().tell_owner_at is None
        assert mail.outbox == []

    def test_is_no_ones_without_an_owner(self, disabled):
        assert notices.tell_due() == 0
        assert WebhookEndpoint.objects.get().tell_owner_at is None

    def test_is_said_of_no_endpoint_that_works_again_or_was_deleted(self, alice, owner, disabled):
        webhooks.change(disabled.pk, agent=alice, state="enabled")
        assert notices.tell_due() == 0
        webhooks.disable(disabled.pk, reason="gone", at=clock.now())
        webhooks.delete(disabled.pk, agent=alice)

        assert notices.tell_due() == 0
        assert mail.outbox == []

    def test_is_too_late_after_five_days(self, owner, disabled):
        WebhookEndpoint.objects.update(disabled_at=clock.now() - timedelta(days=5))

        assert notices.tell_due() == 0
        assert WebhookEndpoint.objects.get().tell_owner_at is None
        assert mail.outbox == []

    def test_is_said_anew_of_what_was_disabled_anew_meanwhile(self, alice, owner, disabled, monkeypatch):
        """Between the sending and the mark the agent enables it, and its receiver is gone again."""

        def and_again(endpoint, address):
            webhooks.change(endpoint.pk, agent=alice, state="enabled")
            webhooks.disable(endpoint.pk, reason="gone", at=clock.now())
            return True

        monkeypatch.setattr(notices, "_is_sent", and_again)
        notices.tell_due()
        monkeypatch.undo()

        assert notices.tell_due() == 1


@pytest.mark.django_db(transaction=True)
class TestTellDueOutside:
    def test_sends_outside_of_every_transaction(self, owner, disabled, monkeypatch):
        from django.db import connection

        seen = []
        sent = locmem.EmailBackend.send_messages
        monkeypatch.setattr(
            locmem.EmailBackend, "send_messages",
            lambda backend, messages: seen.append(connection.in_atomic_block) or sent(backend, messages),
        )  # fmt: skip

        notices.tell_due()

        assert seen == [False]

    def test_is_claimed_by_one_of_eight(self, owner, disabled, race):
        told = race(*[notices.tell_due] * 8)

        assert sorted(told) == [0] * 7 + [1]
        assert len(mail.outbox) == 1
