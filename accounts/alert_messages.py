"""
Telling operators of alerts: by e-mail and by a POST to their webhook, that one began and that it is over.

The alert's row is the queue: claim, send, mark, each committed before the next. A message that may have been lost is
sent again, never dropped. Each channel is marked by itself as soon as it took a message, so that one that is down
makes the other repeat nothing; only a process that dies between sending and marking says something twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import httpx2
from django.conf import settings
from django.core import mail
from django.db import transaction
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Coalesce
from django.urls import reverse

from accounts import clock
from accounts.models import Alert

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5
# Longer than a batch can take: each mail and each request once, and the rest of the batch waits for the next try.
LEASE = timedelta(minutes=5)
LIMIT = 50
FIRST_RETRY_SECONDS = 10
LAST_RETRY_SECONDS = 600


class Message(NamedTuple):
    """What is said of an alert: that it began, or that it is over. Both at once if it was over before we came."""

    alert: Alert
    event: str

    @property
    def text(self) -> str:
        since, over = self.alert.since, self.alert.cleared_at
        until = f", over since {over:%Y-%m-%d %H:%M:%S} UTC" if over else ""
        return f"{self.alert}\n    since {since:%Y-%m-%d %H:%M:%S} UTC{until}\n    {self.alert.detail}".rstrip()


class Channel(Protocol):
    """A way to operators."""

    name: str

    def tell(self, messages: Sequence[Message]) -> Iterator[list[Message]]:
        """Send, and answer after each sending which messages were taken; stop where one is not."""


def tell_due(limit: int = LIMIT) -> int:
    """Tell what operators have not been told yet, and answer of how many alerts every channel knows now."""
    messages = [_message(alert) for alert in _claim(limit)]
    if not messages:
        return 0
    channels = _channels()
    for channel in channels:
        untold = [one for one in messages if _mark(channel, one) not in one.alert.told]
        for taken in channel.tell(untold):
            _mark_taken(channel, taken)
    return _finish(messages, channels)


def _channels() -> list[Channel]:
    channels: list[Channel] = []
    if settings.OPS_EMAILS:
        channels.append(Mail())
    if settings.OPS_WEBHOOK_URL:
        channels.append(Webhook())
    return channels or [Log()]


class Mail:
    """One e-mail for all that is due: fifty payouts that wait are not fifty e-mails."""

    name = "mail"

    def tell(self, messages: Sequence[Message]) -> Iterator[list[Message]]:
        if not messages:
            return
        try:
            with mail.get_connection(timeout=TIMEOUT_SECONDS) as connection:
                mail.EmailMessage(
                    subject=_subject(messages),
                    body="\n\n".join(message.text for message in messages) + "\n",
                    to=settings.OPS_EMAILS,
                    connection=connection,
                ).send()
        except Exception as error:  # every backend has its own; their words may hold addresses and passwords
            log.warning("alerts_not_mailed error=%s", type(error).__name__)
            return
        yield list(messages)


class Webhook:
    """
    One POST for each, in the order they are due; where one is not taken, the rest wait for the next try.

    The address is the operator's own setting and often an internal one, so that strangers' egress is not its way.
    """

    name = "webhook"

    def tell(self, messages: Sequence[Message]) -> Iterator[list[Message]]:
        with httpx2.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
            for message in messages:
                if not self._is_taken(client, message):
                    return
                yield [message]

    def _is_taken(self, client: httpx2.Client, message: Message) -> bool:
        try:
            # The body is not ours to read, however long it is.
            with client.stream("POST", settings.OPS_WEBHOOK_URL, json=_document(message)) as answer:
                if answer.is_success:
                    return True
            log.warning("alert_not_posted alert=%s status=%s", message.alert.pk, answer.status_code)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:  # its words may hold the address, which may be a secret
            log.warning("alert_not_posted alert=%s error=%s", message.alert.pk, type(error).__name__)
        return False


class Log:
    """Where nobody is to be told elsewhere."""

    name = "log"

    def tell(self, messages: Sequence[Message]) -> Iterator[list[Message]]:
        for message in messages:
            log.error("alert_%s %s: %s", message.event, message.alert, message.alert.detail)
        yield list(messages)


@transaction.atomic
def _claim(limit: int) -> list[Alert]:
    at = clock.now()
    due = Alert.objects.filter(
        Q(told_at=None) | Q(cleared_at__isnull=False, cleared_told_at=None), next_attempt_at__lte=at
    )
    claimed = list(due.select_for_update(skip_locked=True, no_key=True).order_by("next_attempt_at", "pk")[:limit])
    Alert.objects.filter(pk__in=[alert.pk for alert in claimed]).update(next_attempt_at=at + LEASE)
    return claimed


def _message(alert: Alert) -> Message:
    return Message(alert, "over" if alert.cleared_at else "began")


def _document(message: Message) -> dict[str, Any]:
    """What the webhook gets; times are RFC 3339."""
    alert = message.alert
    document: dict[str, Any] = {
        "kind": alert.kind,
        "subject": alert.subject,
        "detail": alert.detail,
        "since": alert.since.isoformat(),
        "cleared_at": alert.cleared_at.isoformat() if alert.cleared_at else None,
    }
    if settings.BAILEE_ENV == "production":
        document["url"] = f"https://{settings.DOMAIN}{reverse('admin:index')}"
    return document


def _subject(messages: Sequence[Message]) -> str:
    said = f"{len(messages)} alerts"
    if len(messages) == 1:
        [message] = messages
        said = f"{message.alert}{' is over' if message.event == 'over' else ''}"
    return f"[Bailee] {' '.join(said.split())}"


def _mark(channel: Channel, message: Message) -> str:
    return f"{channel.name}:{message.event}"


def _mark_taken(channel: Channel, taken: Iterable[Message]) -> None:
    for message in taken:
        mark = _mark(channel, message)
        message.alert.told.append(mark)
        Alert.objects.filter(pk=message.alert.pk).exclude(told__contains=[mark]).update(
            told=Func(F("told"), Value(mark), function="array_append")
        )


def _finish(messages: Sequence[Message], channels: Sequence[Channel]) -> int:
    """Close what every channel has taken; the rest is due again later, each time after twice as long."""
    at = clock.now()
    done = 0
    for message in messages:
        row = Alert.objects.filter(pk=message.alert.pk)
        if all(_mark(channel, message) in message.alert.told for channel in channels):
            told: dict[str, Any] = {"told_at": Coalesce("told_at", at), "attempts": 0}
            row.update(**told, **({"cleared_told_at": at} if message.event == "over" else {}))
            done += 1
        else:
            wait = min(FIRST_RETRY_SECONDS * 2 ** min(message.alert.attempts, 20), LAST_RETRY_SECONDS)
            row.update(attempts=F("attempts") + 1, next_attempt_at=at + timedelta(seconds=wait))
    return done
