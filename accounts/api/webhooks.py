from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.fields import Moment, moment
from accounts.edge.fields import Nothing, Strict, Text
from accounts.edge.pages import page
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import Invalid
from accounts.events import redeliveries, secrets, types, webhooks
from accounts.models import WebhookDelivery, WebhookEndpoint

STATUSES = [WebhookEndpoint.State.ENABLED.value, WebhookEndpoint.State.DISABLED.value]
DELIVERY_STATUSES = [state.value for state in WebhookDelivery.State]


class NewEndpoint(Strict):
    """Where to, and of what: without `event_types`, or with none, of everything."""

    url = Text(max_length=webhooks.MAX_URL)
    event_types = serializers.ListField(
        child=serializers.ChoiceField(sorted(types.ALL)), max_length=webhooks.MAX_TYPES, required=False
    )


class EndpointChange(NewEndpoint):
    """What is not given stays; enabling begins anew, as if the receiver had never failed."""

    url = Text(max_length=webhooks.MAX_URL, required=False)
    status = serializers.ChoiceField(STATUSES, required=False, source="state")


class Since(Strict):
    since = Moment()


class EndpointRow(serializers.Serializer):
    id = serializers.UUIDField()
    url = serializers.CharField()
    event_types = serializers.ListField(child=serializers.CharField(), help_text="empty: all")
    status = serializers.ChoiceField(STATUSES)
    created_at = serializers.DateTimeField()
    disabled_at = serializers.DateTimeField(allow_null=True)
    disabled_reason = serializers.CharField(
        allow_null=True, help_text="by_agent, gone (it answered 410), failing (it took nothing for five days)"
    )
    failing_since = serializers.DateTimeField(allow_null=True, help_text="the first failure since the last success")
    last_success_at = serializers.DateTimeField(allow_null=True)
    previous_secret_until = serializers.DateTimeField(
        allow_null=True, help_text="until then the secret before the last rotation signs as well"
    )


class EndpointWithSecret(EndpointRow):
    secret = serializers.CharField(allow_null=True, help_text="shown once; null in a replayed answer")


class DeliveryRow(serializers.Serializer):
    id = serializers.UUIDField()
    event_id = serializers.CharField(help_text="as in /v1/events")
    message_id = serializers.CharField(help_text="the header `webhook-id` of each attempt")
    type = serializers.CharField()
    status = serializers.ChoiceField(DELIVERY_STATUSES)
    attempts = serializers.IntegerField()
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    last_attempt_at = serializers.DateTimeField(allow_null=True)
    last_status = serializers.IntegerField(allow_null=True, help_text="what the receiver answered last")
    last_error = serializers.CharField(allow_null=True, help_text="why there was no answer: a word of ours")
    delivered_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class Redelivered(serializers.Serializer):
    queued = serializers.IntegerField()
    complete = serializers.BooleanField()
    next_since = serializers.DateTimeField(allow_null=True, help_text="ask again from here; null when complete")


class Endpoints(AgentView):
    scopes = {"GET": "webhooks:write", "POST": "webhooks:write"}
    secret_fields = ("secret",)

    @documented(responses={200: paged(EndpointRow)})
    def get(self, request: Any) -> Response:
        """List the agent's webhook endpoints, without secrets."""
        return page(request, webhooks.of(request.user), render=_shown)

    @documented(request=NewEndpoint, responses={201: EndpointWithSecret})
    def post(self, request: Any) -> Response:
        """Send the agent's events to a URL from now on (docs/webhooks.md)."""
        return Response(_told(webhooks.create(request.user.pk, **self.body(NewEndpoint))), status=201)


class EndpointById(AgentView):
    scopes = dict.fromkeys(("GET", "PATCH", "DELETE"), "webhooks:write")

    @documented(responses={200: EndpointRow})
    def get(self, request: Any, endpoint_id: UUID) -> Response:
        """Read one webhook endpoint."""
        return Response(_shown(webhooks.find(endpoint_id, agent=request.user)))

    @documented(request=EndpointChange, responses={200: EndpointRow})
    def patch(self, request: Any, endpoint_id: UUID) -> Response:
        """Change URL or types, disable or enable; disabling fails what is pending, which a redelivery brings back."""
        return Response(_shown(webhooks.change(endpoint_id, agent=request.user, **self.body(EndpointChange))))

    @documented(responses={204: None})
    def delete(self, request: Any, endpoint_id: UUID) -> Response:
        """Send nothing there any more."""
        webhooks.delete(endpoint_id, agent=request.user)
        return Response(status=204)


class SecretRotation(AgentView):
    scopes = {"POST": "webhooks:write"}
    secret_fields = ("secret",)

    @documented(request=Nothing, responses={200: EndpointWithSecret})
    def post(self, request: Any, endpoint_id: UUID) -> Response:
        """Make a new secret; the one before it signs as well for 24 hours."""
        self.body(Nothing)
        return Response(_told(webhooks.rotate(endpoint_id, agent=request.user)))


class EndpointTest(AgentView):
    scopes = {"POST": "webhooks:write"}

    @documented(request=Nothing, responses={201: DeliveryRow})
    def post(self, request: Any, endpoint_id: UUID) -> Response:
        """Send an event `webhook.test` to this endpoint alone, whatever its filter."""
        self.body(Nothing)
        return Response(_delivery(webhooks.send_test(endpoint_id, agent=request.user)), status=201)


class Deliveries(AgentView):
    scopes = {"GET": "webhooks:write"}

    @documented(
        parameters=[OpenApiParameter("status", str, enum=DELIVERY_STATUSES)], responses={200: paged(DeliveryRow)}
    )
    def get(self, request: Any, endpoint_id: UUID) -> Response:
        """List what was sent to this endpoint or will be, newest first."""
        endpoint = webhooks.find(endpoint_id, agent=request.user)
        return page(request, WebhookDelivery.objects.filter(endpoint=endpoint, **_asked(request)), render=_delivery)


class Redeliveries(AgentView):
    scopes = {"POST": "webhooks:write"}

    @documented(request=Since, responses={200: Redelivered})
    def post(self, request: Any, endpoint_id: UUID) -> Response:
        """Send once more what the agent was told from a time on, oldest first and at most 1,000 events a call."""
        found = redeliveries.since(endpoint_id, agent=request.user, **self.body(Since))
        rest = found.next_since
        return Response({"queued": found.queued, "complete": rest is None, "next_since": moment(rest)})


class Redelivery(AgentView):
    scopes = {"POST": "webhooks:write"}

    @documented(request=Nothing, responses={200: DeliveryRow})
    def post(self, request: Any, delivery_id: UUID) -> Response:
        """Send one event once more, now."""
        self.body(Nothing)
        return Response(_delivery(redeliveries.again(delivery_id, agent=request.user)))


def _asked(request: Any) -> dict[str, str]:
    status = request.query_params.get("status")
    if status is None:
        return {}
    if status not in DELIVERY_STATUSES:
        raise Invalid.at("/status", "invalid_choice", f"`status` is one of {', '.join(DELIVERY_STATUSES)}.")
    return {"state": status}


def _told(told: webhooks.Told) -> dict[str, Any]:
    return _shown(told.endpoint) | {"secret": told.secret}


def _shown(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": str(endpoint.pk),
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "status": endpoint.state,
        "created_at": moment(endpoint.created_at),
        "disabled_at": moment(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason or None,
        "failing_since": moment(endpoint.failing_since),
        "last_success_at": moment(endpoint.last_success_at),
        "previous_secret_until": moment(endpoint.previous_secret_until),
    }


def _delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    waits = delivery.state == WebhookDelivery.State.PENDING
    return {
        "id": str(delivery.pk),
        "event_id": str(delivery.event_id),
        "message_id": secrets.message_id(epoch=delivery.event_epoch, event_id=delivery.event_id),
        "type": delivery.type,
        "status": delivery.state,
        "attempts": delivery.attempts,
        "next_attempt_at": moment(delivery.next_attempt_at) if waits else None,
        "last_attempt_at": moment(delivery.last_attempt_at),
        "last_status": delivery.last_status,
        "last_error": delivery.last_error or None,
        "delivered_at": moment(delivery.delivered_at),
        "created_at": moment(delivery.created_at),
    }
