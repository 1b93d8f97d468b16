"""What operators have to look at."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts import ids


class Alert(models.Model):
    """
    Something is wrong since a moment, until it is not any more; one open row for each kind and subject.

    The row is also the queue of what operators have still to be told of it: that it began, that it is over.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=120, blank=True)
    detail = models.CharField(max_length=1000, blank=True)
    since = models.DateTimeField()
    seen_at = models.DateTimeField()
    cleared_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True)
    cleared_told_at = models.DateTimeField(null=True)
    # who took which message already: "mail:began", "webhook:over"
    told = ArrayField(models.CharField(max_length=20), default=list, db_default=[], blank=True)
    attempts = models.IntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=Q(cleared_at__isnull=True), name="alert_open_once"
            ),
            models.CheckConstraint(condition=~Q(kind=""), name="alert_has_a_kind"),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(told_at__isnull=True) | Q(cleared_at__isnull=False, cleared_told_at__isnull=True),
                name="alert_to_tell",
            ),
            models.Index(fields=["-since"], name="alert_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".strip()
