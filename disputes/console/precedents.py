"""What earlier cases decided, to be searched by staff: the same rows and words that agents find."""

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_GET

from accounts.errors import Invalid
from disputes import precedents
from disputes.console.doors import for_staff_who
from disputes.models import Precedent, Reason
from escrow.console.asking import page

SHOWN = 25


def under(guard: Callable[[Any], Any]) -> list[URLPattern]:
    """List the address, behind the console's sign-in."""
    return [path("precedents/", guard(found), name="precedents")]


@for_staff_who("disputes.view_precedent")
@require_GET
def found(request: Any) -> HttpResponse:
    """Search precedents by the reason and by words, newest day first."""
    reason, q = request.GET.get("reason", ""), request.GET.get("q", "").replace("\x00", "").strip()
    refusal = ""
    try:
        rows = list(_beyond(precedents.search(reason=reason, q=q), request.GET.get("after", ""))[: SHOWN + 1])
    except Invalid as invalid:
        rows, refusal = [], invalid.detail
    return page(
        request,
        "admin/precedents/list.html",
        title="Precedents",
        rows=rows[:SHOWN],
        more=_more(request, rows[SHOWN - 1]) if len(rows) > SHOWN else None,
        refusal=refusal,
        q=q,
        reason=reason,
        reasons=Reason.choices,
    )


def _more(request: Any, last: Precedent) -> str:
    query = request.GET.copy()
    query["after"] = f"{last.decided_at.isoformat()}~{last.pk}"
    return f"?{query.urlencode()}"


def _beyond(rows: QuerySet[Precedent], cursor: str) -> QuerySet[Precedent]:
    """Leave out what was shown on earlier pages; what is no cursor leaves out nothing."""
    day, _, identifier = cursor.partition("~")
    try:
        last, pk = date.fromisoformat(day), UUID(identifier)
    except ValueError:
        return rows
    return rows.filter(Q(decided_at__lt=last) | Q(decided_at=last, pk__lt=pk))
