"""What the platform has stopped for a while, and who stopped it."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models.guards import IMMUTABLE


class Pause(models.Model):
    """
    One switch of the platform, as it stands. A row that is missing is a switch nobody ever touched: everything goes on.

    `cause` is the kind of the alert that set it by itself; it is empty where a person did.
    """

    class Flag(models.TextChoices):
        NEW_JOBS = "new_jobs"
        DEPOSITS = "deposits"
        WITHDRAWALS = "withdrawals"

    flag = models.CharField(primary_key=True, max_length=20, choices=Flag.choices)
    paused = models.BooleanField(default=False)
    cause = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    revision = models.IntegerField(default=0)
    changed_at = models.DateTimeField()

    class Meta:
        permissions = [("set_pause", "Can pause the platform and let it go on")]
        constraints = [
            models.CheckConstraint(
                condition=Q(flag__in=["new_jobs", "deposits", "withdrawals"]), name="pause_flag_known"
            ),
            models.CheckConstraint(
                condition=Q(paused=True) | Q(revision=0) | Q(by__isnull=False), name="pause_is_ended_by_a_person"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flag} {'paused' if self.paused else 'open'}"


class PauseChange(models.Model):
    """One change of a switch: who, why, when. Append-only."""

    flag = models.CharField(max_length=20, choices=Pause.Flag.choices)
    paused = models.BooleanField()
    cause = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=500)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    revision = models.IntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["flag", "revision"], name="pausechange_revision_once"),
            models.CheckConstraint(condition=~Q(reason=""), name="pausechange_has_a_reason"),
            models.CheckConstraint(
                condition=Q(paused=True) | Q(by__isnull=False), name="pausechange_only_people_resume"
            ),
        ]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"{self.flag} {'paused' if self.paused else 'resumed'} at {self.at}"
