"""
The report on moderators, over a span of days that the reader chooses, as a page and as a table to take away.

It is for those with `disputes.read_report`: senior moderators and auditors. Taking it away is audited.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.views.decorators.http import require_GET, require_POST

from accounts import audit, clock
from disputes.console import report_figures, spreadsheet
from disputes.console.doors import for_staff_who
from disputes.console.report_figures import BANDS, SIDES, Figures
from escrow.console.asking import page

PERMISSION = "disputes.read_report"
DAYS, MOST_DAYS = 30, 366


class Days(forms.Form):
    """A span of whole days in UTC, its ends included."""

    since = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", widget=forms.DateInput(attrs={"type": "date"}))

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        since, until = said.get("since"), said.get("until")
        if since and until and not timedelta(0) <= until - since < timedelta(days=MOST_DAYS):
            raise forms.ValidationError(f"From 1 to {MOST_DAYS} days, the first one first.")
        return said


@dataclass(frozen=True)
class Span:
    since: date
    until: date

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """The first moment, and the first one that does not belong to it any more."""
        return _midnight(self.since), _midnight(self.until) + timedelta(days=1)


def under(guard: Callable[[Any], Any]) -> list[URLPattern]:
    """List the addresses, each behind the console's sign-in."""
    return [
        path("report/", guard(report), name="report"),
        path("report/export/", guard(export), name="report_export"),
    ]


@for_staff_who(PERMISSION)
@require_GET
def report(request: Any) -> HttpResponse:
    """Show what moderators did, all together and each."""
    form, span = _asked(request.GET)
    return page(
        request,
        "admin/report/report.html",
        title="Moderators",
        form=form,
        span=span,
        people=report_figures.read(*span.moments) if span else [],
        sides=SIDES.values(),
    )


@for_staff_who(PERMISSION)
@require_POST
def export(request: Any) -> HttpResponseBase:
    """Hand the same figures out as CSV; durations are seconds, shares are counts of counts."""
    _, span = _asked(request.POST)
    if span is None:
        return HttpResponse("Choose the days again.", status=400, content_type="text/plain; charset=utf-8")
    people = report_figures.read(*span.moments)
    facts = {"since": str(span.since), "until": str(span.until), "people": len(people)}
    audit.record("report.exported", user=request.user, subject="report:moderators", facts=facts)
    return spreadsheet.stream(_table(people), filename=f"moderators-{span.since}-{span.until}.csv")


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _asked(query: QueryDict) -> tuple[Days, Span | None]:
    """Read the span: without one, the last thirty days."""
    today = clock.now().astimezone(UTC).date()
    chosen = query if "since" in query or "until" in query else None
    form = Days(chosen or {"since": str(today - timedelta(days=DAYS - 1)), "until": str(today)})
    return form, Span(**form.cleaned_data) if form.is_valid() else None


_COLUMNS = [
    "moderator", "cases_held", "first_responses", "response_median_seconds", "response_p90_seconds", "rulings",
    "ruling_median_seconds", "ruling_p90_seconds", "decided_by_second", "returned", "stood", "overturned", "defaults",
]  # fmt: skip


def _table(people: list[Figures]) -> Iterator[list[str]]:
    cells = [(band, side) for band in BANDS for side in SIDES]
    yield [*_COLUMNS, *(f"{side}_{band}" for band, side in cells)]
    for one in people:
        figures = [
            *(one.held, one.responses, _seconds(one.response_median), _seconds(one.response_p90)),
            *(one.rulings, _seconds(one.ruling_median), _seconds(one.ruling_p90)),
            *(one.decided, one.returned, one.stood, one.overturned, one.defaults),
            *(one.outcomes.get(cell, 0) for cell in cells),
        ]
        yield [one.name, *("" if figure is None else str(figure) for figure in figures)]


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else round(span.total_seconds())
