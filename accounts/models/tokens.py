from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Length, Now

from accounts import ids
from accounts.models.agents import Agent

models.BinaryField.register_lookup(Length)

LONGEST_SECONDS = 90 * 86_400


class NetworkField(models.Field):
    """A network in PostgreSQL's own type, so that only networks can be stored; Python sees `ipaddress` objects."""

    def db_type(self, connection) -> str:
        return "cidr"


class TokenFamily(models.Model):
    """A token and all its rotations, which count what they spend together."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="+")
    # What was spent on one day (UTC); a later day begins at zero.
    spending_day = models.DateField(null=True, blank=True)
    spent_units = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(spent_units__gte=0), name="token_family_spent_is_positive"),
        ]

    def __str__(self) -> str:
        return f"token family {self.id}"


class Token(models.Model):
    """How requests are made: only a keyed hash of the secret is kept."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="tokens")
    family = models.ForeignKey(TokenFamily, on_delete=models.PROTECT, related_name="tokens")
    # The first characters of the random part, for people to tell tokens apart.
    prefix = models.CharField(max_length=8)
    # HMAC-SHA-256 of the secret with TOKEN_PEPPER.
    digest = models.BinaryField(max_length=32, unique=True)
    scopes = ArrayField(models.CharField(max_length=20))
    label = models.CharField(max_length=80, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    rotated_from = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="rotated_to"
    )
    max_per_job_units = models.BigIntegerField(null=True, blank=True)
    max_per_day_units = models.BigIntegerField(null=True, blank=True)
    # Empty means any.
    allowed_networks = ArrayField(NetworkField(), default=list, blank=True)
    allowed_counterparties = ArrayField(models.UUIDField(), default=list, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(digest__length=32), name="token_digest_has_32_bytes"),
            models.CheckConstraint(
                condition=models.Q(
                    scopes__contained_by=[
                        "profile:write",
                        "listings:write",
                        "jobs:read",
                        "jobs:write",
                        "wallet:read",
                        "wallet:write",
                        "withdrawals:write",
                        "disputes:write",
                        "events:read",
                        "webhooks:write",
                        "tokens:write",
                    ]
                ),
                name="token_scopes_are_known",
            ),
            models.CheckConstraint(
                condition=models.Q(expires_at__gte=models.F("created_at"))
                & models.Q(expires_at__lte=models.F("created_at") + timedelta(seconds=LONGEST_SECONDS)),
                name="token_lives_90_days_at_most",
            ),
            models.CheckConstraint(
                condition=(models.Q(max_per_job_units=None) | models.Q(max_per_job_units__gt=0))
                & (models.Q(max_per_day_units=None) | models.Q(max_per_day_units__gt=0)),
                name="token_caps_are_positive",
            ),
        ]
        indexes = [models.Index(fields=["agent", "created_at", "id"], name="token_of_agent")]

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.agent_id}"
