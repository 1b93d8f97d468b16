from django.db import models
from django.db.models import Q


class TaskRun(models.Model):
    """When a periodic task last ran, and how it went: one row for each task."""

    task = models.CharField(max_length=120, primary_key=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.IntegerField(null=True, blank=True)
    runs = models.BigIntegerField(default=0)
    # In a row; a run that went well begins anew.
    failures = models.IntegerField(default=0)
    last_error = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.task} at {self.started_at}"


class KnownTask(models.Model):
    """
    A periodic task that the code knows, as `setup_schedules` writes it down: the database lets no other be scheduled.

    Which tasks are clocks, that nobody switches off, stands in the database's own guard.
    """

    task = models.CharField(max_length=120, primary_key=True)
    queue = models.CharField(max_length=40)
    slowest_seconds = models.IntegerField()

    class Meta:
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(condition=Q(slowest_seconds__gte=1), name="known_task_rings")]

    def __str__(self) -> str:
        return self.task
