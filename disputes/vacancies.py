"""Cases that wait for people there are not enough of: alarms that last as long as it does."""

from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from accounts import alerts, clock
from disputes import candidates
from disputes.candidates import HEARS_APPEALS, RULES
from disputes.lifecycle import Action
from disputes.models import Dispute
from disputes.table import RULES as TABLE

# How long a case may wait for somebody before people are told.
PATIENCE = timedelta(hours=1)
UNASSIGNED, WITHOUT_SENIOR = "case_unassigned", "case_without_senior"


def watch(*, at: datetime | None = None) -> None:
    """Sound an alarm for each case that nobody, or no senior, could be found for; end those of all others."""
    at = at or clock.now()
    _tell(UNASSIGNED, _nobodys(at), "Nobody fit has taken it for an hour; appoint a moderator.", at)
    _tell(WITHOUT_SENIOR, _without_senior(), "Half of the time for its ruling is over, and no senior is fit.", at)


def _nobodys(at: datetime) -> list[str]:
    """Find cases that wait for somebody since too long: since the appeal, or since they came under review."""
    states = [state for rule in TABLE if rule.action == Action.ASSIGN for state in rule.origin]
    waiting = Dispute.objects.filter(state__in=states, assigned_to=None)
    since = Coalesce(F("appeal__filed_at"), F("entered_review_at"))
    return _ids(waiting.annotate(waits_since=since).filter(waits_since__lte=at - PATIENCE))


def _without_senior() -> list[str]:
    states = [state for rule in TABLE if rule.action == Action.ESCALATE for state in rule.origin]
    seniors = candidates.in_turn([RULES, HEARS_APPEALS]).filter(pk=OuterRef("assigned_to")).order_by().values("pk")
    free = Q(assigned_to=None) | (~Exists(seniors) & Q(assigned_to__is_superuser=False))
    return _ids(Dispute.objects.filter(state__in=states, escalated_at__isnull=False).filter(free))


def _ids(found: QuerySet[Dispute]) -> list[str]:
    return [str(pk) for pk in found.order_by("pk").values_list("pk", flat=True)]


def _tell(kind: str, waiting: list[str], detail: str, at: datetime) -> None:
    for case in waiting:
        alerts.sound(kind, case, detail=detail, at=at)
    alerts.clear_others(kind, still=waiting, at=at)
