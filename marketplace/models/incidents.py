from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Now

from accounts import ids


class Heartbeat(models.Model):
    """When a part of the platform was last seen at work: beat, redis, worker, chain."""

    part = models.CharField(max_length=16, primary_key=True)
    at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.part} at {self.at}"


class Incident(models.Model):
    """
    A declared outage that moves deadlines: by a person, or by itself when a part was away too long.

    Incidents may overlap; the time that counts is in `Standstill`.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    # The part that was away; empty: declared by a person.
    part = models.CharField(max_length=16, blank=True, default="")
    reason = models.CharField(max_length=500)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    declared_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    end_reason = models.CharField(max_length=500, blank=True, default="")
    # The affected agents up to this one were told that it began; null: none yet.
    told_up_to = models.UUIDField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True)
    recorded_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        permissions = [("declare_incident", "Can declare incidents and end them")]
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")), name="incident_ends_after_it_began"
            ),
            models.UniqueConstraint(
                fields=["part"], condition=Q(ended_at=None) & ~Q(part=""), name="incident_of_a_part_is_open_once"
            ),
        ]
        indexes = [models.Index(fields=["-started_at"], name="incident_newest")]

    def __str__(self) -> str:
        return f"incident {self.id} ({self.part or 'declared'})"


class Standstill(models.Model):
    """
    A time in which the clocks of jobs and cases stood still: the union of incidents that overlap.

    Every row with a clock knows the number of the last one that moved it (`standstill`), so each moves it once. They
    never overlap, and a later number is a later time.
    """

    number = models.IntegerField(primary_key=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    # Every row was moved.
    moved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gt=F("started_at")), name="standstill_lasts"
            ),
            models.CheckConstraint(
                condition=Q(moved_at=None) | Q(ended_at__isnull=False), name="standstill_ends_before_it_moves"
            ),
            ExclusionConstraint(
                name="standstills_never_overlap",
                expressions=[
                    (
                        Func(
                            F("started_at"),
                            F("ended_at"),
                            function="tstzrange",
                            output_field=DateTimeRangeField(),
                        ),
                        RangeOperators.OVERLAPS,
                    )
                ],
            ),
        ]

    def __str__(self) -> str:
        return f"standstill {self.number}"


class LastStandstill(models.Func):
    """The number of the last standstill that is over: what a new row starts with."""

    function = "marketplace_last_standstill"
    output_field = models.IntegerField()
