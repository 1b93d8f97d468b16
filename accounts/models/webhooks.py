from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts import ids
from accounts.models.agents import Agent


class NewUuid7(models.Func):
    """An id made by the database, for rows that it makes itself."""

    function = "accounts_uuid7"
    output_field = models.UUIDField()


class WebhookEndpoint(models.Model):
    """
    Where an agent wants to be told. Its secret is stored nowhere: it is derived from WEBHOOK_KEY, the id and the
    generation, and shown once.
    """

    class State(models.TextChoices):
        ENABLED = "enabled"
        DISABLED = "disabled"
        DELETED = "deleted"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="+", db_index=False)
    url = models.TextField()
    # Empty: every type.
    event_types = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ENABLED)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True, default="")
    secret_generation = models.IntegerField(default=1)
    # Until then the generation before signs as well.
    previous_secret_until = models.DateTimeField(null=True, blank=True)
    # We disabled it, and its owner is to be told by e-mail: when to try next.
    tell_owner_at = models.DateTimeField(null=True, blank=True)
    # The first failure since the last success: five days of it disable the endpoint.
    failing_since = models.DateTimeField(null=True, blank=True)
    last_success_at = models.DateTimeField(null=True, blank=True)
    # The receiver asked for patience (Retry-After): nothing is sent before.
    held_until = models.DateTimeField(null=True, blank=True)
    # At most two requests in flight: two lanes, each held by one worker for a while; past: free since then.
    lane_1_until = models.DateTimeField(null=True, blank=True)
    lane_2_until = models.DateTimeField(null=True, blank=True)
    revision = models.IntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["enabled", "disabled", "deleted"]), name="webhook_endpoint_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state="enabled", disabled_at=None) | Q(~Q(state="enabled"), disabled_at__isnull=False),
                name="webhook_endpoint_end_is_dated",
            ),
            models.CheckConstraint(condition=Q(secret_generation__gte=1), name="webhook_endpoint_has_a_secret"),
            models.CheckConstraint(condition=~Q(url=""), name="webhook_endpoint_has_a_url"),
        ]
        indexes = [
            models.Index(fields=["agent", "id"], name="webhook_endpoint_of_agent"),
            # Each event asks for these: it must not look through all that the agent ever deleted.
            models.Index(fields=["agent"], condition=Q(state="enabled"), name="webhook_endpoint_told"),
            models.Index(
                fields=["tell_owner_at"], condition=Q(tell_owner_at__isnull=False), name="webhook_endpoint_to_tell"
            ),
        ]

    def __str__(self) -> str:
        return f"webhook endpoint {self.id} ({self.state})"


class WebhookDelivery(models.Model):
    """
    One event on its way to one endpoint, written in the transaction of the event. The row is the queue.

    `lease` names the worker that sends it; nobody else does before `leased_until`.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, db_default=NewUuid7(), editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    event_id = models.BigIntegerField()
    event_epoch = models.IntegerField()
    # The month in whose partition the event is.
    event_recorded_at = models.DateTimeField()
    type = models.CharField(max_length=40)
    state = models.CharField(max_length=9, choices=State.choices, default=State.PENDING, db_default=State.PENDING)
    # How many requests were made; `tries` counts since the last redelivery, by which the schedule goes.
    attempts = models.IntegerField(default=0, db_default=0)
    tries = models.SmallIntegerField(default=0, db_default=0)
    next_attempt_at = models.DateTimeField(db_default=Now())
    lease = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    last_attempt_at = models.DateTimeField(null=True, blank=True)
    last_status = models.SmallIntegerField(null=True, blank=True)
    # A word of ours (timeout, refused, tls, blocked_address): never what the receiver said.
    last_error = models.CharField(max_length=40, blank=True, default="", db_default="")
    delivered_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "event_id"], name="webhook_delivery_once"),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "delivered", "failed"]), name="webhook_delivery_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state="delivered", delivered_at__isnull=False)
                | Q(~Q(state="delivered"), delivered_at=None),
                name="webhook_delivery_end_is_dated",
            ),
            models.CheckConstraint(
                condition=Q(lease=None, leased_until=None)
                | Q(lease__isnull=False, leased_until__isnull=False, state="pending"),
                name="webhook_delivery_lease_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(tries__gte=0, attempts__gte=F("tries")), name="webhook_delivery_tries_are_counted"
            ),
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "next_attempt_at", "event_id"],
                condition=Q(state="pending"),
                name="webhook_delivery_due",
            ),
            models.Index(fields=["created_at"], name="webhook_delivery_by_age"),
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_of_endpoint"),
        ]

    def __str__(self) -> str:
        return f"event {self.event_id} to {self.endpoint_id} ({self.state})"
