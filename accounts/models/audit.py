"""
What staff did, and the sensitive things agents did: append-only rows, sealed into a chain of their own.

Writers only add a record; nobody waits for the end of the chain. Once a minute the sealer links every record that is
committed for good, in the order (epoch, xid, id), and publishes the head.
"""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models.agents import Agent
from accounts.models.events import CurrentEpoch, CurrentTransaction, Xid8Field
from accounts.models.guards import IMMUTABLE


class AuditRecord(models.Model):
    """Who did what to what, why, and from where; `before` and `after` are SHA-256 digests of the row's state."""

    id = models.BigAutoField(primary_key=True)
    epoch = models.IntegerField(db_default=CurrentEpoch())
    xid = Xid8Field(db_default=CurrentTransaction())
    action = models.CharField(max_length=60)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    agent = models.ForeignKey(Agent, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    subject = models.CharField(max_length=120, blank=True)  # "dispute:<id>", "agent:<id>", "pause:withdrawals"
    before = models.BinaryField(null=True, max_length=32)
    after = models.BinaryField(null=True, max_length=32)
    facts = models.JSONField(default=dict)
    reason = models.TextField(blank=True, default="")
    address = models.CharField(max_length=64, blank=True, default="")
    request_id = models.CharField(max_length=128, blank=True, default="")
    occurred_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(condition=~Q(action=""), name="auditrecord_has_an_action")]
        indexes = [
            models.Index(fields=["user", "-id"], name="auditrecord_of_user"),
            models.Index(fields=["agent", "-id"], name="auditrecord_of_agent"),
            models.Index(fields=["subject", "-id"], name="auditrecord_of_subject"),
            models.Index(fields=["epoch", "xid", "id"], name="auditrecord_order"),
        ]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"{self.action} {self.subject}".strip()


class AuditLink(models.Model):
    """
    One record's place in the chain: `chain_hash` = SHA-256(chain hash before + hash of the record).

    The record's number is no foreign key: if a record was deleted, its link must be there to say so.
    """

    position = models.BigIntegerField(primary_key=True)
    record_id = models.BigIntegerField(unique=True)
    record_hash = models.BinaryField(max_length=32)
    chain_hash = models.BinaryField(max_length=32)
    sealed_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(condition=Q(position__gte=1), name="auditlink_counts_from_one")]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"link {self.position}"


class AuditSeal(models.Model):
    """The head of the chain after one sealing, as it was published."""

    position = models.BigIntegerField(primary_key=True)
    chain_hash = models.BinaryField(max_length=32)
    sealed_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"seal at {self.position}"
