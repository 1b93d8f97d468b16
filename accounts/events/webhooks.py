"""
Where agents want to be told: their webhook endpoints, from the first to the last request.

What is sent there, and when, is in `deliveries`; what is sent once more, in `redeliveries`; by what receivers know it,
in `secrets`. Who changes an endpoint locks its row, and the rows of its deliveries after it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from accounts import agents, audit, clock, ids
from accounts.errors import DomainError, Invalid, NotFound
from accounts.events import egress, log, secrets, types
from accounts.models import Agent, WebhookDelivery, WebhookEndpoint

MAX_URL = 2_048
MAX_TYPES = 50
OVERLAP = timedelta(hours=24)
# Whoever has so many does not ask how many more.
MOST_COUNTED, MOST_COUNTED_OF_ONE = 10_000, 1_000

# Why an endpoint is disabled; further words are the agent's business.
BY_AGENT, GONE, FAILING = "by_agent", "gone", "failing"

State = WebhookEndpoint.State


class TooManyEndpoints(DomainError):
    code = "too_many_webhook_endpoints"
    title = "The agent has as many webhook endpoints as it may have"


class EndpointDisabled(DomainError):
    code = "webhook_endpoint_disabled"
    title = "The webhook endpoint is disabled"


class Told(NamedTuple):
    """An endpoint, and its secret of now, which is shown this once."""

    endpoint: WebhookEndpoint
    secret: str


@transaction.atomic
def create(agent_id: UUID, *, url: str, event_types: Sequence[str] = (), at: datetime | None = None) -> Told:
    """
    Send an agent's events to a URL from now on: those of the named types, or all.

    :raises Invalid: for a URL that we never post to, or types that do not exist
    :raises TooManyEndpoints: beyond WEBHOOK_ENDPOINTS_PER_AGENT, of which disabled ones are some
    """
    agent = agents.locked(agent_id)
    if of(agent).count() >= settings.WEBHOOK_ENDPOINTS_PER_AGENT:
        raise TooManyEndpoints(limit=settings.WEBHOOK_ENDPOINTS_PER_AGENT)
    at = at or clock.now()
    endpoint = WebhookEndpoint(
        id=ids.uuid7(), agent=agent, url=_usable(url), event_types=_known(event_types), created_at=at
    )
    endpoint.save(force_insert=True)
    _audit("webhook_endpoint.created", endpoint, at=at)
    return Told(endpoint, secrets.of(endpoint, endpoint.secret_generation))


@transaction.atomic
def change(
    endpoint_id: UUID,
    *,
    agent: Agent,
    url: str | None = None,
    event_types: Sequence[str] | None = None,
    state: str | None = None,
    at: datetime | None = None,
) -> WebhookEndpoint:
    """
    Change where to and of what an agent is told, or stop and begin again; only what is given changes.

    :raises NotFound: if it is no endpoint of this agent; :raises Invalid: as for `create`
    """
    endpoint = locked(endpoint_id, agent=agent)
    before, at = audit.state_of(endpoint), at or clock.now()
    if url is not None and url != endpoint.url:
        endpoint.url = _usable(url)
        _begin_anew(endpoint)
    if event_types is not None:
        endpoint.event_types = _known(event_types)
    if state is not None and state != endpoint.state:
        _enable(endpoint) if state == State.ENABLED else _end(endpoint, State.DISABLED, reason=BY_AGENT, at=at)
    _save(endpoint)
    _audit("webhook_endpoint.changed", endpoint, before=before, at=at)
    return endpoint


@transaction.atomic
def delete(endpoint_id: UUID, *, agent: Agent, at: datetime | None = None) -> None:
    """
    Send nothing there any more; the row stays for those who look back.

    :raises NotFound: if it is no endpoint of this agent
    """
    endpoint = locked(endpoint_id, agent=agent)
    before, at = audit.state_of(endpoint), at or clock.now()
    _end(endpoint, State.DELETED, reason=BY_AGENT, at=at)
    _save(endpoint)
    _audit("webhook_endpoint.deleted", endpoint, before=before, at=at)


@transaction.atomic
def rotate(endpoint_id: UUID, *, agent: Agent, at: datetime | None = None) -> Told:
    """
    Make a new secret; the one before signs as well for 24 hours.

    No more than two sign at once: rotating again within the 24 hours ends the oldest of the three now.

    :raises NotFound: if it is no endpoint of this agent
    """
    endpoint = locked(endpoint_id, agent=agent)
    before, at = audit.state_of(endpoint), at or clock.now()
    endpoint.secret_generation += 1
    endpoint.previous_secret_until = at + OVERLAP
    _save(endpoint)
    _audit("webhook_endpoint.secret_rotated", endpoint, before=before, at=at)
    return Told(endpoint, secrets.of(endpoint, endpoint.secret_generation))


@transaction.atomic
def send_test(endpoint_id: UUID, *, agent: Agent, at: datetime | None = None) -> WebhookDelivery:
    """
    Send an event `webhook.test` to this endpoint alone, whatever its filter.

    :raises NotFound: if it is no endpoint of this agent; :raises EndpointDisabled: if it is disabled
    """
    endpoint = locked(endpoint_id, agent=agent)
    require_enabled(endpoint)
    data = {"endpoint_id": str(endpoint.pk)}
    log.record("webhook.test", to=[agent.pk], data=data, at=at or clock.now())
    # Tests of one endpoint follow each other under its lock: the latest is this one.
    return WebhookDelivery.objects.filter(endpoint=endpoint, type="webhook.test").latest("event_id")


@transaction.atomic
def disable(endpoint_id: UUID, *, reason: str, at: datetime, revision: int | None = None) -> WebhookEndpoint:
    """
    Stop sending to a receiver that is `gone` or `failing`; its agent is told, and the owner by e-mail (`notices`).

    One that is not enabled any more, or was changed after `revision`, stays as it is.
    """
    endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)
    if endpoint.state != State.ENABLED or revision not in (None, endpoint.revision):
        return endpoint
    _end(endpoint, State.DISABLED, reason=reason, at=at)
    endpoint.tell_owner_at = at
    _save(endpoint)
    data = {"endpoint_id": str(endpoint.pk), "reason": reason}
    log.record("webhook.disabled", to=[endpoint.agent_id], data=data, at=at)
    return endpoint


def end_strays() -> int:
    """
    Fail what was queued for an endpoint just when it was disabled or deleted, and answer how much.

    Who recorded the event had not seen the change yet, and who changed the endpoint did not see the delivery.
    """
    with connection.cursor() as cursor:
        cursor.execute(_END_STRAYS, {"enabled": State.ENABLED})
        return cursor.rowcount


def of(agent: Agent) -> Any:
    """Ask for an agent's endpoints."""
    return WebhookEndpoint.objects.filter(agent_id=agent.pk).exclude(state=State.DELETED)


def find(endpoint_id: UUID, *, agent: Agent) -> WebhookEndpoint:
    """
    Find an endpoint.

    :raises NotFound: if it is no endpoint of this agent
    """
    return _found(of(agent).filter(pk=endpoint_id))


def locked(endpoint_id: UUID, *, agent: Agent) -> WebhookEndpoint:
    """
    Lock an endpoint against other changes of it; events may still be queued for it.

    :raises NotFound: if it is no endpoint of this agent
    """
    return _found(of(agent).select_for_update(no_key=True).filter(pk=endpoint_id))


def require_enabled(endpoint: WebhookEndpoint) -> None:
    """
    Let enabled endpoints pass.

    :raises EndpointDisabled: if it is not
    """
    if endpoint.state != State.ENABLED:
        raise EndpointDisabled("Enable it first, by `status`.", disabled_reason=endpoint.disabled_reason)


def health() -> dict[str, Any]:
    """
    Count endpoints and what is on its way, in one statement.

    `{enabled, failing, disabled, pending, due, oldest_due_at}`: failing ones are enabled; `due` are the deliveries that
    should have been sent by now, the first since `oldest_due_at`; a receiver that asked for patience delays its own.
    Counting stops at 10,000 pending and at 1,000 due to one endpoint.
    """
    with connection.cursor() as cursor:
        bounds = {"most": MOST_COUNTED, "most_of_one": MOST_COUNTED_OF_ONE}
        cursor.execute(_HEALTH, {"enabled": State.ENABLED, "disabled": State.DISABLED, **bounds})
        row = cursor.fetchone()
        return dict(zip([column.name for column in cursor.description], row, strict=True))


def _found(endpoints: Any) -> WebhookEndpoint:
    endpoint = endpoints.first()
    if endpoint is None:
        raise NotFound("There is no such webhook endpoint.")
    return endpoint


def _usable(url: str) -> str:
    if len(url) > MAX_URL:
        raise Invalid.at("/url", "max_length", f"At most {MAX_URL} characters.")
    egress.check(url)
    return url


def _known(event_types: Sequence[str]) -> list[str]:
    """Keep each type once, in the order given."""
    known = list(dict.fromkeys(event_types))
    if len(known) > MAX_TYPES:
        raise Invalid.at("/event_types", "too_many", f"At most {MAX_TYPES} types; none means all.")
    for unknown in (name for name in known if name not in types.ALL):
        raise Invalid.at("/event_types", "invalid_choice", f"There are no events of type {unknown!r}.")
    return known


def _enable(endpoint: WebhookEndpoint) -> None:
    endpoint.state, endpoint.disabled_at, endpoint.disabled_reason = State.ENABLED, None, ""
    endpoint.tell_owner_at = None
    _begin_anew(endpoint)


def _end(endpoint: WebhookEndpoint, state: str, *, reason: str, at: datetime) -> None:
    endpoint.state, endpoint.disabled_at, endpoint.disabled_reason = state, at, reason
    endpoint.tell_owner_at = None
    _pending(endpoint).update(
        state=WebhookDelivery.State.FAILED, lease=None, leased_until=None, last_error=f"endpoint_{state}"
    )


def _begin_anew(endpoint: WebhookEndpoint) -> None:
    """What the receiver did so far counts no more; nor does what it answers to what is on its way right now."""
    endpoint.failing_since = endpoint.held_until = None
    _pending(endpoint).exclude(lease=None).update(lease=None, leased_until=None)


def _pending(endpoint: WebhookEndpoint) -> Any:
    return WebhookDelivery.objects.filter(endpoint=endpoint, state=WebhookDelivery.State.PENDING)


def _save(endpoint: WebhookEndpoint) -> None:
    endpoint.revision += 1
    endpoint.save(
        update_fields=[
            *("url", "event_types", "state", "disabled_at", "disabled_reason", "tell_owner_at", "revision"),
            *("secret_generation", "previous_secret_until", "failing_since", "held_until"),
        ]
    )


def _audit(action: str, endpoint: WebhookEndpoint, *, before: dict[str, Any] | None = None, at: datetime) -> None:
    # The host alone: a path may be what its receiver keeps secret.
    facts = {"host": urlsplit(endpoint.url).hostname or "", "generation": endpoint.secret_generation}
    audit.record(
        action, agent=endpoint.agent, subject=f"webhook_endpoint:{endpoint.pk}", before=before,
        after=audit.state_of(endpoint), facts=facts, at=at,
    )  # fmt: skip


_END_STRAYS = """
    UPDATE accounts_webhookdelivery delivery
    SET state = 'failed', lease = NULL, leased_until = NULL, last_error = 'endpoint_' || endpoint.state
    FROM (
        SELECT id, state FROM accounts_webhookendpoint WHERE state <> %(enabled)s
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ) endpoint
    WHERE delivery.endpoint_id = endpoint.id AND delivery.state = 'pending'
"""
# Per endpoint a look at the front of its own queue, by the index: what waits for later is not read.
_HEALTH = """
    SELECT count(*) FILTER (WHERE endpoint.state = %(enabled)s) AS enabled,
           count(*) FILTER (WHERE endpoint.state = %(enabled)s AND endpoint.failing_since IS NOT NULL) AS failing,
           count(*) FILTER (WHERE endpoint.state = %(disabled)s) AS disabled,
           (SELECT count(*) FROM (
               SELECT FROM accounts_webhookdelivery WHERE state = 'pending' LIMIT %(most)s
           ) counted) AS pending,
           coalesce(sum(queue.due), 0)::bigint AS due,
           min(greatest(queue.oldest, endpoint.held_until)) AS oldest_due_at
    FROM accounts_webhookendpoint endpoint
    LEFT JOIN LATERAL (
        SELECT count(*) AS due, min(next_attempt_at) AS oldest FROM (
            SELECT next_attempt_at FROM accounts_webhookdelivery
            WHERE endpoint_id = endpoint.id AND state = 'pending' AND next_attempt_at <= statement_timestamp()
              AND (leased_until IS NULL OR leased_until <= statement_timestamp())
            ORDER BY next_attempt_at LIMIT %(most_of_one)s
        ) front
    ) queue ON endpoint.state = %(enabled)s
        AND (endpoint.held_until IS NULL OR endpoint.held_until <= statement_timestamp())
"""
