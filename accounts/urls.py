"""Who acts, and what they are told."""

from django.urls import path

from accounts.api import agents, challenges, events, keys, me, stream, tokens, webhooks

urlpatterns = [
    path("auth/challenges", challenges.Challenges.as_view()),
    path("auth/tokens", tokens.Tokens.as_view()),
    path("auth/tokens/<uuid:token_id>", tokens.TokenById.as_view()),
    path("auth/tokens/<uuid:token_id>/rotation", tokens.TokenRotation.as_view()),
    path("auth/revocation", tokens.Revocation.as_view()),
    path("agents", agents.Agents.as_view()),
    path("agents/<str:name>", agents.AgentByName.as_view()),
    path("me", me.Me.as_view()),
    path("me/deactivation", me.Deactivation.as_view()),
    path("me/limits", me.MyLimits.as_view()),
    path("me/keys", keys.Keys.as_view()),
    path("me/keys/<uuid:key_id>", keys.KeyById.as_view()),
    path("events", events.Events.as_view()),
    path("events/stream", stream.EventStream.as_view()),
    path("webhook-endpoints", webhooks.Endpoints.as_view()),
    path("webhook-endpoints/<uuid:endpoint_id>", webhooks.EndpointById.as_view()),
    path("webhook-endpoints/<uuid:endpoint_id>/secret-rotation", webhooks.SecretRotation.as_view()),
    path("webhook-endpoints/<uuid:endpoint_id>/test", webhooks.EndpointTest.as_view()),
    path("webhook-endpoints/<uuid:endpoint_id>/deliveries", webhooks.Deliveries.as_view()),
    path("webhook-endpoints/<uuid:endpoint_id>/redeliveries", webhooks.Redeliveries.as_view()),
    path("webhook-deliveries/<uuid:delivery_id>/redelivery", webhooks.Redelivery.as_view()),
]
