"""The home page: what waits for whoever looks at it."""

from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest

from accounts import clock
from disputes.console import queue
from disputes.models import Dispute
from escrow.console import lights


def context(request: HttpRequest) -> dict[str, Any]:
    """
    Gather one's own cases, the head of the queue, the numbers above it, and the treasury's lights.

    Nothing of it for those who may not see it.
    """
    treasury = {"treasury_lights": lights.of(request.user)}
    if not request.user.has_perm("disputes.view_dispute"):
        return treasury | {"sees_cases": False}
    at = clock.now()
    waiting, _ = queue.rows({"state": "under_review", "assigned": "nobody"}, user=request.user, at=at)
    mine, _ = queue.rows({"state": "live", "assigned": "me"}, user=request.user, at=at)
    return treasury | {
        "sees_cases": True,
        "mine": mine[:10],
        "waiting": waiting[:10],
        "numbers": _numbers(),
        "late": sum(row.light == "late" for row in waiting),
    }


def _numbers() -> list[tuple[str, str, int]]:
    state = Dispute.State
    of = {
        "awaiting_answer": Q(state=state.AWAITING_ANSWER),
        "evidence": Q(state=state.EVIDENCE),
        "under_review": Q(state=state.UNDER_REVIEW),
        "ruled": Q(state=state.RULED),
    }
    counted = Dispute.objects.filter(closed_at=None).aggregate(
        **{name: Count("pk", filter=which) for name, which in of.items()}
    )
    return [(name, queue.STATES[name], counted[name]) for name in of]
