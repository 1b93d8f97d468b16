"""The queue: cases in the order in which they need somebody, a page at a time."""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from disputes import lifecycle
from disputes.models import Dispute, Reason

PAGE = 50
STATES = {
    "under_review": "Waiting for a ruling",
    "live": "All living cases",
    **{value: label for value, label in Dispute.State.choices if value != "under_review"},
}
ASSIGNED = {"": "Anyone", "me": "Me", "nobody": "Nobody"}
AMOUNTS = {"": "Any amount", "small": "Below 10 USDC", "middle": "10 to 100 USDC", "large": "100 USDC and more"}


class Row(NamedTuple):
    dispute: Dispute
    light: str  # calm, soon, late


def rows(query: Any, *, user: Any, at: datetime) -> tuple[list[Row], str | None]:
    """Find a page of cases, and the cursor of the next one."""
    found = _filtered(query, user).annotate(urgent_at=Coalesce("rule_by", "deadline_at", "closed_at", "created_at"))
    if after := _opened(query.get("after", "")):
        found = found.filter(Q(urgent_at__gt=after[0]) | Q(urgent_at=after[0], pk__gt=after[1]))
    page = list(
        found.select_related("client", "seller", "assigned_to")
        .defer("statement_of_client", "statement_of_seller")
        .order_by("urgent_at", "pk")[: PAGE + 1]
    )
    more = f"{page[PAGE - 1].urgent_at.isoformat()}~{page[PAGE - 1].pk}" if len(page) > PAGE else None
    return [Row(dispute, light_of(dispute, at)) for dispute in page[:PAGE]], more


def light_of(dispute: Dispute, at: datetime) -> str:
    """Say how much of the time for a ruling is used: below half calm, beyond it soon, over it late."""
    if not lifecycle.awaits_ruling(dispute) or dispute.entered_review_at is None or dispute.rule_by is None:
        return "calm"
    used = (at - dispute.entered_review_at) / (dispute.rule_by - dispute.entered_review_at)
    return "late" if used >= 1 else "soon" if used >= 0.5 else "calm"


def _filtered(query: Any, user: Any) -> QuerySet[Dispute]:
    found = Dispute.objects.all()
    match query.get("state", "under_review"):
        case "live":
            found = found.filter(closed_at=None)
        case state if state in Dispute.State.values:
            found = found.filter(state=state)
    match query.get("assigned", ""):
        case "me":
            found = found.filter(assigned_to=user)
        case "nobody":
            found = found.filter(assigned_to=None)
    match query.get("amount", ""):
        case "small":
            found = found.filter(price_units__lt=10_000_000)
        case "middle":
            found = found.filter(price_units__gte=10_000_000, price_units__lt=100_000_000)
        case "large":
            found = found.filter(price_units__gte=100_000_000)
    if (reason := query.get("reason", "")) in Reason.values:
        found = found.filter(reason=reason)
    return found


def _opened(cursor: str) -> tuple[datetime, UUID] | None:
    moment, _, identifier = cursor.partition("~")
    try:
        at = datetime.fromisoformat(moment)
        return (at.astimezone(UTC), UUID(identifier)) if at.tzinfo else None
    except (ValueError, OverflowError):  # a moment before the first year or after the last
        return None
