import pgtrigger
from django.db import models
from django.db.models.functions import Length, Now

from accounts import ids
from accounts.models.agents import Agent

models.BinaryField.register_lookup(Length)


class AgentKey(models.Model):
    """An Ed25519 public key: one agent's for ever, also after its removal."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="keys")
    public_key = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField(db_default=Now())
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(public_key__length=32), name="agent_key_has_32_bytes"),
        ]
        triggers = [
            pgtrigger.Protect(name="key_is_for_ever", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(name="key_stays_its_agents", fields=["agent", "public_key"]),
            pgtrigger.Protect(
                name="removal_is_for_ever",
                operation=pgtrigger.UpdateOf("removed_at"),
                condition=pgtrigger.Q(old__removed_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"key {bytes(self.public_key).hex()[:8]} of {self.agent_id}"


class Challenge(models.Model):
    """A message that proves possession of a key when it comes back signed: once, and soon."""

    class Purpose(models.TextChoices):
        REGISTER = "register"
        SIGN_IN = "sign_in"
        ADD_KEY = "add_key"
        WALLET = "wallet"
        CONFIRM = "confirm"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    purpose = models.CharField(max_length=8, choices=Purpose.choices)
    public_key = models.BinaryField(max_length=32)
    nonce = models.BinaryField(max_length=32, unique=True)
    message = models.TextField()
    expires_at = models.DateTimeField(db_index=True)
    spent_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(purpose__in=["register", "sign_in", "add_key", "wallet", "confirm"]),
                name="challenge_purpose_is_known",
            ),
            models.CheckConstraint(
                condition=models.Q(public_key__length=32, nonce__length=32), name="challenge_has_32_bytes_each"
            ),
            models.CheckConstraint(
                condition=models.Q(spent_at=None) | models.Q(spent_at__lt=models.F("expires_at")),
                name="challenge_spent_in_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} challenge {self.id}"
