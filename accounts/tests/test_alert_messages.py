"""Operators are told of each alert, at least once, by every channel, whatever dies or is down meanwhile."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection

from accounts import alert_messages, alerts, clock, tasks
from accounts.models import Alert

pytestmark = pytest.mark.django_db


class Receiver:
    """An HTTP server that writes down what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.status = 204
        self.location = ""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(json.loads(body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def said(self) -> list[tuple[str, bool]]:
        return [(each["subject"], each["cleared_at"] is not None) for each in self.received]


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    settings.OPS_WEBHOOK_URL = receiver.url
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


@pytest.fixture
def mailbox(settings: Any) -> list[Any]:
    settings.OPS_EMAILS = ["ops@example.org", "night@example.org"]
    return mail.outbox


class Killed(BaseException):
    """The process is gone."""


def time_passes() -> None:
    """Claims run out, the wait for another try is over."""
    Alert.objects.update(next_attempt_at=clock.now() - timedelta(seconds=1))


class TestMail:
    def test_says_that_it_began_and_that_it_is_over(self, mailbox):
        alerts.sound("relayer_gas_low", "0xabc", detail="3 wei are left")
        assert alert_messages.tell_due() == 1
        assert alert_messages.tell_due() == 0
        alerts.clear("relayer_gas_low", "0xabc")
        assert alert_messages.tell_due() == 1
        assert alert_messages.tell_due() == 0

        began, over = mailbox
        assert began.to == ["ops@example.org", "night@example.org"]
        assert began.subject == "[Bailee] relayer_gas_low 0xabc"
        assert "3 wei are left" in began.body
        assert over.subject == "[Bailee] relayer_gas_low 0xabc is over"
        alert = Alert.objects.get()
        assert alert.told_at < alert.cleared_told_at

    def test_gathers_what_is_due_into_one(self, mailbox):
        for number in range(60):
            alerts.sound("payout_overdue", str(number))

        assert alert_messages.tell_due() == 50
        assert alert_messages.tell_due() == 10

        assert [message.subject for message in mailbox] == ["[Bailee] 50 alerts", "[Bailee] 10 alerts"]

    def test_of_what_was_over_before_anybody_was_told_is_one(self, mailbox):
        alerts.sound("relayer_gas_low", "0xabc")
        alerts.clear("relayer_gas_low", "0xabc")

        assert alert_messages.tell_due() == 1
        assert alert_messages.tell_due() == 0

        assert len(mailbox) == 1
        assert "over since" in mailbox[0].body

    def test_keeps_a_line_break_out_of_its_subject(self, mailbox):
        alerts.sound("relayer_gas_low", "0xabc\nBcc: eve@example.org")

        assert alert_messages.tell_due() == 1

        assert mailbox[0].subject == "[Bailee] relayer_gas_low 0xabc Bcc: eve@example.org"

    def test_goes_on_while_it_lasts_without_another_word(self, mailbox):
        alerts.sound("relayer_gas_low", "0xabc")
        alert_messages.tell_due()

        alerts.sound("relayer_gas_low", "0xabc", detail="less")
        time_passes()

        assert alert_messages.tell_due() == 0
        assert len(mailbox) == 1


class TestWebhook:
    def test_is_sent_what_began_and_what_is_over(self, receiver):
        alerts.sound("relayer_gas_low", "0xabc", detail="3 wei are left")
        tasks.tell_alerts()
        alerts.clear("relayer_gas_low", "0xabc")
        tasks.tell_alerts()

        began, over = receiver.received
        row = Alert.objects.get()
        assert began == {
            **{"kind": "relayer_gas_low", "subject": "0xabc", "detail": "3 wei are left"},
            **{"since": row.since.isoformat(), "cleared_at": None},
        }
        assert over == {**began, "cleared_at": row.cleared_at.isoformat()}

    def test_is_given_an_address_to_look_at_in_production(self, receiver, settings):
        settings.BAILEE_ENV, settings.DOMAIN = "production", "bailee.example"
        alerts.sound("relayer_gas_low")

        alert_messages.tell_due()

        assert receiver.received[0]["url"] == "https://bailee.example/admin/"

    @pytest.mark.parametrize("status", [500, 404, 302])
    def test_that_does_not_take_it_is_asked_again_later_and_later(self, receiver, status):
        receiver.status = status
        alerts.sound("relayer_gas_low", "0xabc")

        waits = []
        for _ in range(9):
            before = clock.now()
            assert alert_messages.tell_due() == 0
            assert alert_messages.tell_due() == 0  # not due
            waits.append(round((Alert.objects.get().next_attempt_at - before).total_seconds(), -1))
            time_passes()
        receiver.status = 200
        assert alert_messages.tell_due() == 1

        assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]
        assert len(receiver.received) == 10
        assert Alert.objects.get().attempts == 0

    def test_is_not_followed_elsewhere(self, receiver):
        receiver.status, receiver.location = 307, f"{receiver.url}/elsewhere"
        alerts.sound("relayer_gas_low")

        assert alert_messages.tell_due() == 0

        assert len(receiver.received) == 1

    def test_that_is_away_loses_nothing(self, receiver, settings):
        there, settings.OPS_WEBHOOK_URL = settings.OPS_WEBHOOK_URL, "http://127.0.0.1:9/"
        alerts.sound("relayer_gas_low", "0xabc")
        alerts.sound("relayer_gas_low", "0xdef")
        assert alert_messages.tell_due() == 0
        time_passes()
        settings.OPS_WEBHOOK_URL = there

        assert alert_messages.tell_due() == 2

        assert receiver.said() == [("0xabc", False), ("0xdef", False)]

    def test_that_has_no_sensible_address_stops_nothing_else(self, settings, mailbox):
        settings.OPS_WEBHOOK_URL = "http://[::1"
        alerts.sound("relayer_gas_low", "0xabc")

        assert alert_messages.tell_due() == 0
        assert len(mailbox) == 1


class BrokenMail(EmailBackend):
    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError


class TestBoth:
    def test_one_that_is_down_makes_the_other_repeat_nothing(self, receiver, mailbox, settings):
        working, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{__name__}.BrokenMail"
        alerts.sound("relayer_gas_low", "0xabc")
        for _ in range(3):
            assert alert_messages.tell_due() == 0
            time_passes()
        assert Alert.objects.get().told_at is None
        settings.EMAIL_BACKEND = working

        assert alert_messages.tell_due() == 1

        assert receiver.said() == [("0xabc", False)]
        assert len(mailbox) == 1

    def test_what_was_over_while_one_was_down_is_told_as_over(self, receiver, mailbox):
        receiver.status = 500
        alerts.sound("relayer_gas_low", "0xabc")
        alert_messages.tell_due()
        alerts.clear("relayer_gas_low", "0xabc")
        receiver.status = 200

        assert alert_messages.tell_due() == 1

        assert receiver.said() == [("0xabc", False), ("0xabc", True)]
        assert [message.subject for message in mailbox] == [
            "[Bailee] relayer_gas_low 0xabc",
            "[Bailee] relayer_gas_low 0xabc is over",
        ]


class TestDeath:
    def test_between_sending_and_marking_says_it_again(self, receiver, mailbox, monkeypatch):
        alerts.sound("relayer_gas_low", "0xabc")

        def die(*_: Any) -> None:
            raise Killed

        with monkeypatch.context() as doom:
            doom.setattr(alert_messages, "_mark_taken", die)
            with pytest.raises(Killed):
                alert_messages.tell_due()
        assert alert_messages.tell_due() == 0  # the claim stands
        time_passes()

        assert alert_messages.tell_due() == 1
        assert len(mailbox) == 2
        assert receiver.said() == [("0xabc", False)]

    def test_between_two_requests_repeats_only_the_last(self, receiver, monkeypatch):
        for number in range(3):
            alerts.sound("relayer_gas_low", str(number))
        mark_taken = alert_messages._mark_taken
        marked = []

        def die_at_the_second(*args: Any) -> None:
            marked.append(1)
            if len(marked) == 2:
                raise Killed
            mark_taken(*args)

        with monkeypatch.context() as doom:
            doom.setattr(alert_messages, "_mark_taken", die_at_the_second)
            with pytest.raises(Killed):
                alert_messages.tell_due()
        time_passes()

        assert alert_messages.tell_due() == 3
        assert receiver.said() == [("0", False), ("1", False), ("1", False), ("2", False)]


class TestNobody:
    def test_is_told_by_the_log_at_once(self, caplog):
        alerts.sound("relayer_gas_low", "0xabc", detail="3 wei are left")

        assert alert_messages.tell_due() == 1

        assert any("alert_began relayer_gas_low 0xabc: 3 wei" in record.message for record in caplog.records)
        assert alert_messages.tell_due() == 0


class AttentiveMail(EmailBackend):
    """Mail that notices whether it is sent inside of a transaction."""

    inside: list[bool] = []

    def send_messages(self, messages: Any) -> int:
        self.inside.append(connection.in_atomic_block)
        return super().send_messages(messages)


class TestManyAtOnce:
    def test_tell_each_thing_once_and_outside_of_any_transaction(self, race, receiver, mailbox, settings):
        settings.EMAIL_BACKEND = f"{__name__}.AttentiveMail"
        AttentiveMail.inside = []
        for number in range(24):
            alerts.sound("payout_overdue", str(number))

        outcomes = race(*[lambda: alert_messages.tell_due(5)] * 8)
        rest = alert_messages.tell_due()  # who meets another's claim goes home with less

        assert sum(outcomes) + rest == 24
        assert sorted(subject for subject, _ in receiver.said()) == sorted(str(number) for number in range(24))
        assert not any(AttentiveMail.inside)
        assert AttentiveMail.inside
        assert not Alert.objects.filter(told_at=None).exists()

    def test_what_is_over_while_its_beginning_is_told_is_told_too(self, mailbox, monkeypatch):
        alerts.sound("relayer_gas_low", "0xabc")
        claim = alert_messages._claim

        def claim_and_then_it_is_over(limit: int) -> Any:
            claimed = claim(limit)
            alerts.clear("relayer_gas_low", "0xabc")
            return claimed

        with monkeypatch.context() as moment:
            moment.setattr(alert_messages, "_claim", claim_and_then_it_is_over)
            assert alert_messages.tell_due() == 1

        assert alert_messages.tell_due() == 1
        assert [message.subject for message in mailbox] == [
            "[Bailee] relayer_gas_low 0xabc",
            "[Bailee] relayer_gas_low 0xabc is over",
        ]
