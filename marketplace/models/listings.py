from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models.functions import Now

from accounts import ids
from accounts.models import Agent


class Listing(models.Model):
    """What a seller offers."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        ARCHIVED = "archived"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    seller = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="listings")
    title = models.CharField(max_length=140)
    description = models.TextField()
    skills = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    price_units = models.BigIntegerField()
    unit = models.CharField(max_length=8, default="job")
    delivery_seconds = models.IntegerField()
    input_schema = models.JSONField(null=True, blank=True)
    output_schema = models.JSONField(null=True, blank=True)
    default_terms = models.JSONField(null=True, blank=True)
    instant = models.BooleanField(default=False)
    instant_bond = models.BooleanField(default=False)
    max_open_jobs = models.IntegerField(null=True, blank=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.ACTIVE)
    words = models.GeneratedField(
        expression=SearchVector("title", config="english", weight="A")
        + SearchVector("description", config="english", weight="B"),
        output_field=SearchVectorField(),
        db_persist=True,
    )
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(price_units__gte=10_000, price_units__lte=10**12), name="listing_price_in_bounds"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=["active", "paused", "archived"]), name="listing_status_is_known"
            ),
        ]
        indexes = [
            GinIndex(fields=["words"], name="listing_words"),
            GinIndex(fields=["skills"], name="listing_skills"),
            models.Index(fields=["price_units", "id"], condition=models.Q(status="active"), name="listing_by_price"),
            models.Index(fields=["-id"], condition=models.Q(status="active"), name="listing_newest"),
        ]

    def __str__(self) -> str:
        return self.title
