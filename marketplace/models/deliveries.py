from django.db import models
from django.db.models import Q

from accounts import ids
from accounts.models.guards import IMMUTABLE
from marketplace.models.jobs import Job


class Delivery(models.Model):
    """One attempt at the work; immutable."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    number = models.SmallIntegerField()
    # JSON content is stored canonical (RFC 8785), so that everyone computes the same digest.
    is_file = models.BooleanField()
    body = models.BinaryField()
    sha256 = models.CharField(max_length=71)
    size = models.IntegerField()
    content_type = models.CharField(max_length=100)
    filename = models.CharField(max_length=140, blank=True, default="")
    note = models.TextField(blank=True, default="")
    delivered_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="delivery_number_once"),
            models.CheckConstraint(condition=Q(size__gte=0, size__lte=10_485_760), name="delivery_size_in_bounds"),
        ]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"delivery {self.number} of {self.job_id}"
