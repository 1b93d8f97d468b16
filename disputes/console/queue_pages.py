"""The queue as a page."""

from typing import Any

from django.http import HttpResponse
from django.views.decorators.http import require_GET

from accounts import clock
from disputes.console import queue as queues
from disputes.console.doors import for_staff_who
from disputes.models import Reason
from escrow.console.asking import page

FILTERS = ("assigned", "amount", "age", "reason", "light")


@for_staff_who("disputes.view_dispute")
@require_GET
def queue(request: Any) -> HttpResponse:
    """List the cases that match the filters, or what is searched for, most urgent first."""
    rows, more = queues.rows(request.GET, user=request.user, at=clock.now())
    return page(
        request,
        "admin/cases/queue.html",
        title="Cases",
        rows=rows,
        more=_with(request, after=more) if more else None,
        is_first=not request.GET.get("after"),
        first=_with(request, after=""),
        chosen={name: request.GET.get(name, "") for name in FILTERS} | {"state": queues.state_of(request.GET)},
        sought=request.GET.get("q", "").strip(),
        filters=_filters(),
        may_take=request.user.has_perm("disputes.rule"),
    )


def _filters() -> list[tuple[str, str, list[tuple[str, str]]]]:
    people = [(str(user.pk), user.username) for user in queues.moderators()]
    return [
        ("state", "State", list(queues.STATES.items())),
        ("assigned", "Assigned to", [*queues.ASSIGNED.items(), *people]),
        ("light", "Time", [("", "Any time"), *queues.LIGHTS.items()]),
        ("age", "Opened", [("", "Any age"), *((value, age[0]) for value, age in queues.AGES.items())]),
        ("amount", "Amount", list(queues.AMOUNTS.items())),
        ("reason", "Reason", [("", "Any reason"), *Reason.choices]),
    ]


def _with(request: Any, **changed: str | None) -> str:
    query = request.GET.copy()
    for name, value in changed.items():
        query[name] = value or ""
    return f"?{query.urlencode()}"
