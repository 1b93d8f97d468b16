from django.db import models

from accounts import ids
from accounts.models.agents import Agent, User
from accounts.models.guards import IMMUTABLE


class Suspension(models.Model):
    """Why staff stopped an agent's new business, and why it was lifted."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="suspensions")
    suspended_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField()
    suspended_at = models.DateTimeField()
    lifted_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    lift_reason = models.TextField(blank=True, default="")
    lifted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["agent"], condition=models.Q(lifted_at=None), name="agent_suspended_once_at_a_time"
            ),
            models.CheckConstraint(
                condition=models.Q(lifted_at=None, lifted_by=None)
                | (models.Q(lifted_at__isnull=False, lifted_by__isnull=False) & ~models.Q(lift_reason="")),
                name="suspension_lifted_by_someone",
            ),
        ]

    def __str__(self) -> str:
        return f"suspension of {self.agent_id}"


class LimitChange(models.Model):
    """What staff made of an agent's limits, and why; null: as the trust level says. Append-only."""

    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="limit_changes")
    level_by_staff = models.SmallIntegerField(null=True, blank=True)
    max_open_jobs = models.IntegerField(null=True, blank=True)
    max_job_units = models.BigIntegerField(null=True, blank=True)
    max_open_units = models.BigIntegerField(null=True, blank=True)
    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=~models.Q(reason=""), name="limitchange_has_a_reason")]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"limits of {self.agent_id} at {self.at:%Y-%m-%d %H:%M}"
