"""The page of incidents: outages that let the clocks stand still, declared and ended by people or by themselves."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django import forms
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET, require_http_methods

from accounts import clock
from disputes.console import asking, keyset, operation
from disputes.console.asking import Question, page
from disputes.console.doors import for_staff_who
from disputes.templatetags.console import duration, moment
from marketplace import incidents
from marketplace.models import Incident, Standstill

PAGE = 30
READ, DECLARE = operation.SEES_INCIDENTS, incidents.DECLARE
_NEWEST = keyset.Order("started_at", newest_first=True)


def under(guard: Callable[[Any], Any]) -> list[URLPattern]:
    """List the addresses, each behind the console's sign-in."""
    return [
        path("incidents/", guard(listed), name="incidents"),
        path("incidents/declare/", guard(declare), name="incident_declare"),
        path("incidents/<uuid:incident_id>/end/", guard(end), name="incident_end"),
    ]


@for_staff_who(READ)
@require_GET
def listed(request: Any) -> HttpResponse:
    """List the incidents, the newest first, and say whether the clocks run."""
    found = Incident.objects.select_related("declared_by", "ended_by")
    rows, more = keyset.page(found, _NEWEST, after=request.GET.get("after", ""), limit=PAGE)
    standstills = list(_overlapping(rows))
    at = clock.now()
    return page(
        request,
        "admin/incidents/list.html",
        title="Incidents",
        rows=[_line(incident, _of(incident, standstills), at) for incident in rows],
        more=f"?after={quote(more)}" if more else None,
        standing_since=incidents.standing_since(),
        open_now=len(incidents.open_now()),
        hearts=operation.hearts(at),
        may_declare=request.user.has_perm(DECLARE),
    )


class Declaration(asking.Reasoned):
    """Why the clocks are to stand still, and since when."""

    since = forms.DateTimeField(
        label="Began at, UTC",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="Empty: when the first of the parts that are quiet now was last seen, else now.",
    )
    field_order = ["reason", "since"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["reason"].help_text = "Agents whose deadlines stand still read it, word for word."


@for_staff_who(DECLARE)
@require_http_methods(["GET", "POST"])
def declare(request: Any) -> HttpResponse:
    """Let the clocks stand still."""
    standing = incidents.standing_since()
    question = Question(
        title="Declare an incident",
        button="Declare it",
        effect="No clock of a job or case runs, and nothing is approved, refunded or ruled by silence, until the last"
        " open incident has ended. Then every deadline is moved by the time that was lost. Agents with an open"
        " deadline are told. Deliveries, approvals, disputes and payouts go on.",
        facts=[
            ("Clocks", f"stand still since {moment(standing)}" if standing else "run"),
            ("Open incidents", str(len(incidents.open_now()))),
            *((heart.label, heart.value) for heart in operation.hearts(clock.now())),
        ],
        form=Declaration.asked,
        act=lambda said: incidents.start(reason=said["reason"], since=said["since"], by=request.user),
        done="The incident is declared: the clocks stand still until you end it.",
        crumbs=(("Incidents", reverse("admin:incidents")),),
    )
    return asking.ask(request, question, back=reverse("admin:incidents"))


@for_staff_who(DECLARE)
@require_http_methods(["GET", "POST"])
def end(request: Any, incident_id: UUID) -> HttpResponse:
    """End an incident."""
    incident = Incident.objects.select_related("declared_by").filter(pk=incident_id).first()
    if incident is None:
        raise Http404("There is no such incident.")
    others = sum(one.pk != incident.pk for one in incidents.open_now())
    lasted = duration(_seconds(incident.started_at, clock.now()))
    question = Question(
        title="End the incident",
        button="End it",
        effect="The clocks stay as they are: another incident is open."
        if others
        else "The clocks run again, and every"
        " deadline that was open is moved by the time it lost. That takes moments, and the agents are told.",
        facts=[
            ("Reason", incident.reason),
            ("Cause", _cause(incident)),
            ("Began", moment(incident.started_at)),
            ("Lasts", lasted),
            ("Ended", moment(incident.ended_at) if incident.ended_at else "no"),
            ("Other open incidents", str(others)),
        ],
        form=asking.Reasoned.asked,
        act=lambda said: incidents.end(incident_id, by=request.user, reason=said["reason"]),
        done="The incident has ended.",
        crumbs=(("Incidents", reverse("admin:incidents")),),
    )
    return asking.ask(request, question, back=reverse("admin:incidents"))


def _line(incident: Incident, standstill: Standstill | None, at: datetime) -> dict[str, Any]:
    return {
        **{name: getattr(incident, name) for name in ("pk", "started_at", "ended_at", "ended_by", "reason")},
        "end_reason": incident.end_reason,
        "cause": _cause(incident),
        "lasted": _seconds(incident.started_at, incident.ended_at or at),
        "standstill": standstill,
        "standstill_seconds": _seconds(standstill.started_at, standstill.ended_at or at) if standstill else 0,
    }


def _seconds(start: datetime, end: datetime) -> int:
    return max(int((end - start).total_seconds()), 0)


def _cause(incident: Incident) -> str:
    if incident.part:
        return f"by itself: {operation.PARTS.get(incident.part, incident.part)} was away"
    return f"declared by {incident.declared_by}" if incident.declared_by else "declared on a machine"


def _overlapping(rows: list[Incident]) -> QuerySet[Standstill]:
    """Find the standstills of a page of incidents, which stand in the order of their beginning."""
    if not rows:
        return Standstill.objects.none()
    found = Standstill.objects.filter(Q(ended_at=None) | Q(ended_at__gte=rows[-1].started_at))
    ends = [incident.ended_at for incident in rows]
    return found if None in ends else found.filter(started_at__lte=max(ends))  # type: ignore[type-var]


def _of(incident: Incident, standstills: list[Standstill]) -> Standstill | None:
    return next(
        (
            one
            for one in standstills
            if one.started_at <= incident.started_at and (one.ended_at is None or incident.started_at < one.ended_at)
        ),
        None,
    )
