"""What a receiver has missed, sent once more: one event, or all since a time."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction

from accounts import clock
from accounts.errors import DomainError, NotFound
from accounts.events import webhooks
from accounts.models import Agent, WebhookDelivery, WebhookEndpoint

BATCH = 1_000


class DeliveryInFlight(DomainError):
    code = "delivery_in_flight"
    title = "The delivery is being sent right now"


class Queued(NamedTuple):
    """How many deliveries are pending now; `next_since` is where to go on, None at the end."""

    queued: int
    next_since: datetime | None


@transaction.atomic
def again(delivery_id: UUID, *, agent: Agent, at: datetime | None = None) -> WebhookDelivery:
    """
    Send an event once more, now and with the whole schedule before it.

    :raises NotFound: if it is no delivery to an endpoint of this agent
    :raises webhooks.EndpointDisabled: if that is disabled
    :raises DeliveryInFlight: while a worker has it
    """
    webhooks.require_enabled(_locked_endpoint(delivery_id, agent=agent))
    delivery = WebhookDelivery.objects.select_for_update(no_key=True).get(pk=delivery_id)
    at = at or clock.now()
    if delivery.leased_until is not None and delivery.leased_until > at:
        raise DeliveryInFlight
    delivery.state, delivery.tries, delivery.next_attempt_at = WebhookDelivery.State.PENDING, 0, at
    delivery.delivered_at = delivery.lease = delivery.leased_until = None
    delivery.save(update_fields=["state", "tries", "next_attempt_at", "delivered_at", "lease", "leased_until"])
    return delivery


@transaction.atomic
def since(endpoint_id: UUID, *, agent: Agent, since: datetime, limit: int = BATCH) -> Queued:
    """
    Send once more what the agent was told from a time on, as far as the endpoint's filter lets it pass.

    At most `limit` events a call, with those of the same microsecond as the last. What a worker has right now is left
    to it; tests are not repeated. Safe to repeat: each event has one delivery, however often it is asked for.

    :raises NotFound: if it is no endpoint of this agent; :raises webhooks.EndpointDisabled: if it is disabled
    """
    endpoint = webhooks.locked(endpoint_id, agent=agent)
    webhooks.require_enabled(endpoint)
    asked: dict[str, Any] = {
        "agent": agent.pk,
        "endpoint": endpoint.pk,
        "types": endpoint.event_types,
        "since": since,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SINCE, asked)
        queued, read, last = cursor.fetchone()
    return Queued(queued, last + timedelta(microseconds=1) if read >= limit else None)


def _locked_endpoint(delivery_id: UUID, *, agent: Agent) -> WebhookEndpoint:
    endpoints = webhooks.of(agent).select_for_update(no_key=True, of=("self",))
    endpoint = endpoints.filter(deliveries__pk=delivery_id).first()
    if endpoint is None:
        raise NotFound("There is no such delivery.")
    return endpoint


_SINCE = """
    WITH missed AS (
        SELECT id, epoch, recorded_at, type FROM accounts_event
        WHERE recipient_id = %(agent)s AND recorded_at >= %(since)s AND type <> 'webhook.test'
          AND (%(types)s::text[] = '{}' OR type = ANY(%(types)s::text[]))
        ORDER BY recorded_at FETCH FIRST %(limit)s ROWS WITH TIES
    ), queued AS (
        INSERT INTO accounts_webhookdelivery AS delivery (endpoint_id, event_id, event_epoch, event_recorded_at, type)
        SELECT %(endpoint)s, id, epoch, recorded_at, type FROM missed ORDER BY id
        ON CONFLICT (endpoint_id, event_id) DO UPDATE
        SET state = 'pending', tries = 0, next_attempt_at = excluded.next_attempt_at,
            delivered_at = NULL, lease = NULL, leased_until = NULL
        WHERE delivery.lease IS NULL OR delivery.leased_until <= clock_timestamp()
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM queued), count(*), max(recorded_at) FROM missed
"""
