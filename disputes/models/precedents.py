"""What earlier cases decided, without anything that names their parties."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import Q

from accounts.models.guards import IMMUTABLE
from disputes.models.cases import Dispute


class Precedent(models.Model):
    """The anonymised summary of one final case. Append-only."""

    # Random: a UUIDv7 would tell the millisecond, and by it the case.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Never shown with it: a summary must not lead back to its case.
    dispute = models.OneToOneField(Dispute, on_delete=models.PROTECT, related_name="precedent")
    reason = models.CharField(max_length=20)  # what the case was opened for
    reason_codes = ArrayField(models.CharField(max_length=20))  # what was found
    category = models.CharField(max_length=40, blank=True)
    price_band = models.CharField(max_length=20)
    opened_by = models.CharField(max_length=6)
    facts = models.JSONField()
    seller_bps = models.IntegerField(null=True)  # null: redo
    redo = models.BooleanField()
    is_default = models.BooleanField()
    bond_to = models.CharField(max_length=6, blank=True)
    deposit = models.CharField(max_length=10, blank=True)
    reasons = models.TextField()
    decided_at = models.DateField()
    words = models.GeneratedField(
        expression=SearchVector("reasons", "category", config="english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=Q(redo=True, seller_bps=None) | Q(redo=False, seller_bps__range=(0, 10_000)),
                name="precedent_has_an_outcome",
            ),
        ]
        indexes = [
            GinIndex(fields=["words"], name="precedent_words"),
            models.Index(fields=["-decided_at", "-id"], name="precedent_newest"),
            models.Index(fields=["reason", "-decided_at", "-id"], name="precedent_for_a_reason"),
            models.Index(fields=["reason", "price_band", "-decided_at"], name="precedent_alike"),
        ]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"precedent {str(self.id)[-6:]}"
