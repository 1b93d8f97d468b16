"""Who had a case, since when and why: staff see it, parties never."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models.guards import IMMUTABLE
from disputes.models.cases import Dispute


class Assignment(models.Model):
    """One change of hands. Append-only; the case itself says who has it now."""

    class How(models.TextChoices):
        BY_TURN = "by_turn", "By turn: fewest open cases"
        TAKEN = "taken", "Taken"
        REASSIGNED = "reassigned", "Given by a colleague"
        ESCALATED = "escalated", "Escalated to a senior"
        APPEAL = "appeal", "To hear the appeal"
        RECUSED = "recused", "Recused"
        RELEASED = "released", "Released: its holder cannot act any more"

    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="assignments")
    # Nobody, after a recusal that nobody could follow.
    to = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="assignments"
    )
    # Null where the system did it.
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    how = models.CharField(max_length=10, choices=How.choices)
    reason = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        permissions = [("read_report", "Can read and export the report on moderators")]
        constraints = [
            models.CheckConstraint(
                condition=Q(how__in=["by_turn", "taken", "reassigned", "escalated", "appeal", "recused", "released"]),
                name="assignment_how_is_known",
            ),
            models.CheckConstraint(
                condition=~Q(how__in=["recused", "reassigned"]) | ~Q(reason=""), name="assignment_says_why"
            ),
        ]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"{self.how} at {self.at:%Y-%m-%d %H:%M}"
