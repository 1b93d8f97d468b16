"""
Telling owners that we stopped sending to an endpoint of their agent's, by e-mail.

The endpoint's row is the queue: claim, send, mark, each committed before the next. A message that may have been lost
is sent again, never dropped; only a process that dies between sending and marking says it twice.
"""

import logging
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.core import mail
from django.db import transaction
from django.db.models import Count, Min

from accounts import clock
from accounts.events import webhooks
from accounts.models import User, WebhookEndpoint

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5
# Longer than a batch can take; what is not sent is tried again after it.
LEASE = timedelta(minutes=10)
# Nobody is helped by hearing of it later.
PATIENCE = timedelta(days=5)
LIMIT = 50

WHY = {
    webhooks.GONE: "its receiver answered 410 Gone",
    webhooks.FAILING: "its receiver has taken nothing for five days",
}


def tell_due(limit: int = LIMIT) -> int:
    """Tell the owners that have not been told yet, and answer how many were."""
    told = 0
    for endpoint in _claim(limit):
        address = _address_of(endpoint.agent.owner)
        if address is None:
            _done(endpoint)
        elif _is_sent(endpoint, address):
            _done(endpoint)
            told += 1
    return told


def waiting() -> tuple[int, datetime | None]:
    """Count what owners have not been told yet, and say since when the first waits."""
    untold = WebhookEndpoint.objects.filter(tell_owner_at__isnull=False)
    found = untold.aggregate(count=Count("pk"), first=Min("disabled_at"))
    return found["count"], found["first"]


@transaction.atomic
def _claim(limit: int) -> list[WebhookEndpoint]:
    at = clock.now()
    due = WebhookEndpoint.objects.filter(tell_owner_at__lte=at).select_related("agent__owner")
    claimed = list(due.select_for_update(skip_locked=True, no_key=True, of=("self",)).order_by("tell_owner_at")[:limit])
    for endpoint in claimed:
        endpoint.tell_owner_at = at + LEASE
    WebhookEndpoint.objects.filter(pk__in=[endpoint.pk for endpoint in claimed]).update(tell_owner_at=at + LEASE)
    return [endpoint for endpoint in claimed if not _is_stale(endpoint, at)]


def _is_stale(endpoint: WebhookEndpoint, at: datetime) -> bool:
    stale = endpoint.disabled_at is None or endpoint.disabled_at + PATIENCE <= at
    if stale:
        _done(endpoint)
    return stale


def _address_of(owner: User | None) -> str | None:
    return owner.email if owner is not None and owner.is_active and owner.email else None


def _is_sent(endpoint: WebhookEndpoint, address: str) -> bool:
    try:
        with mail.get_connection(timeout=TIMEOUT_SECONDS) as connection:
            mail.EmailMessage(
                subject=f"[Bailee] {endpoint.agent.handle}: a webhook endpoint is disabled",
                body=_body(endpoint),
                to=[address],
                connection=connection,
            ).send()
    except Exception as error:  # every backend has its own; their words may hold addresses and passwords
        log.warning("owner_not_mailed endpoint=%s error=%s", endpoint.pk, type(error).__name__)
        return False
    return True


def _body(endpoint: WebhookEndpoint) -> str:
    # The host alone: a path may be what its receiver keeps secret.
    host = urlsplit(endpoint.url).hostname
    why = WHY.get(endpoint.disabled_reason, endpoint.disabled_reason)
    return (
        f"We no longer send events of your agent {endpoint.agent.handle} to its webhook endpoint at {host}: {why}.\n\n"
        f"    endpoint  {endpoint.pk}\n"
        f"    since     {endpoint.disabled_at:%Y-%m-%d %H:%M:%S} UTC\n\n"
        "Nothing is lost: the agent can read all that it was told by GET /v1/events. When the receiver works again, the"
        f" agent enables the endpoint by PATCH /v1/webhook-endpoints/{endpoint.pk} and asks for what it has missed by"
        f" POST /v1/webhook-endpoints/{endpoint.pk}/redeliveries.\n"
    )


def _done(endpoint: WebhookEndpoint) -> None:
    # If it was disabled anew in the meantime, somebody is to be told anew.
    WebhookEndpoint.objects.filter(pk=endpoint.pk, tell_owner_at=endpoint.tell_owner_at).update(tell_owner_at=None)
