"""The home page: what waits for whoever looks at it."""

from datetime import datetime
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest

from accounts import clock
from disputes.console import charts, operation, queue, waiting
from disputes.models import Dispute
from escrow.console import lights, movements

SHOWN = 8  # of each list
State = Dispute.State
COUNTED = {
    "awaiting_answer": Q(state=State.AWAITING_ANSWER),
    "evidence": Q(state=State.EVIDENCE),
    "under_review": Q(state=State.UNDER_REVIEW),
    "awaiting_approval": Q(state=State.AWAITING_APPROVAL),
    "ruled": Q(state=State.RULED),
    "appealed": Q(state=State.APPEALED),
}


def context(request: HttpRequest) -> dict[str, Any]:
    """
    Gather one's own cases, the head of the queue, what waits for a second word, the alerts, the charts.

    Each only for those who may see it, and in a number of statements that no row changes.
    """
    user: Any = request.user
    at = clock.now()
    return {
        "treasury_lights": lights.of(user),
        "operation_lights": operation.lights(user),
        "alerts": movements.alerts() if user.has_perm("accounts.view_alert") else None,
        "money": charts.money(user, at),
        "sees_money": user.has_perm("escrow.view_treasury"),
    } | (_cases(user, at) if user.has_perm("disputes.view_dispute") else {"sees_cases": False})


def _cases(user: Any, at: datetime) -> dict[str, Any]:
    mine, _ = queue.rows({"state": "staff", "assigned": "me"}, user=user, at=at, limit=SHOWN)
    next_up, _ = queue.rows({"state": "staff"}, user=user, at=at, limit=SHOWN)
    numbers = queue.lit(Dispute.objects.filter(closed_at=None), at).aggregate(
        **{name: Count("pk", filter=which) for name, which in COUNTED.items()},
        late=Count("pk", filter=Q(light="late")),
        soon=Count("pk", filter=Q(light="soon")),
        nobody=Count("pk", filter=Q(state=State.UNDER_REVIEW, assigned_to=None)),
    )
    return {
        "sees_cases": True,
        "may_take": user.has_perm("disputes.rule"),
        "may_approve": user.has_perm("disputes.approve"),
        "may_hear_appeals": user.has_perm("disputes.hear_appeals"),
        "mine": mine,
        "next_up": next_up,
        "approvals": waiting.approvals(user, at=at, limit=SHOWN),
        "appeals": waiting.appeals(user, at=at, limit=SHOWN),
        "numbers": [(name, queue.STATES[name], numbers[name]) for name in COUNTED],
        "late": numbers["late"],
        "soon": numbers["soon"],
        "nobody": numbers["nobody"],
        "ages": charts.ages(at),
        "rulings": charts.rulings(at),
    }
