from django.db import models


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
