"""The audit log as a page: who did what, when, why and from where, newest first, and as a table to take away."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import URLPattern, path
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import audit
from accounts.audit_chain import time_text
from accounts.models import Agent, AuditLink, AuditRecord
from disputes.console import asking, finding, spreadsheet
from disputes.console.doors import for_staff_who

PAGE, BATCH, LAST_YEAR = 50, 1_000, 9_000
FILTERS = ("user", "agent", "action", "subject", "since", "until")
# What a subject can be, for who has an id and does not know of what.
KINDS = (
    "agent", "dispute", "withdrawal", "token", "key", "address", "outflow", "deposit", "user", "pause", "transfer",
    "schedule", "relayer", "treasury", "precedent", "test",
)  # fmt: skip
COLUMNS = (
    "id", "time", "who", "action", "subject", "before", "after", "facts", "reason", "address", "request_id", "position",
)  # fmt: skip

for_auditors = for_staff_who("accounts.view_auditrecord")


class Row(NamedTuple):
    """A record, and its place in the chain once it is sealed."""

    record: AuditRecord
    position: int | None

    @property
    def who(self) -> str:
        if self.record.user is not None:
            return self.record.user.get_username()
        return self.record.agent.handle if self.record.agent is not None else ""

    @property
    def kind(self) -> str:
        if self.record.user_id is not None:
            return "staff"
        return "agent" if self.record.agent_id is not None else "nobody signed in"

    @property
    def what(self) -> str:
        return json.dumps(self.record.facts, sort_keys=True, ensure_ascii=False) if self.record.facts else ""


def under(guard: Any) -> list[URLPattern]:
    """List the addresses, each behind the console's sign-in."""
    return [
        path("audit/", guard(log), name="audit_log"),
        path("audit/export/", guard(export), name="audit_export"),
    ]


@for_auditors
@require_GET
@never_cache
def log(request: Any) -> HttpResponse:
    """Show a page of the log, and the head of its chain."""
    chosen = _chosen(request.GET)
    people = get_user_model().objects.filter(is_staff=True).order_by("username")
    rows, more = _page(_found(chosen), before=request.GET.get("before", ""), limit=PAGE)
    return asking.page(
        request,
        "admin/audit/log.html",
        title="Audit log",
        rows=rows,
        chosen=chosen,
        people=[(str(pk), name) for pk, name in people.values_list("pk", "username")],
        head=audit.head(),
        more=_address(chosen, before=more) if more else None,
        is_first=not request.GET.get("before"),
        first=_address(chosen),
    )


@for_auditors
@require_POST
@never_cache
def export(request: Any) -> StreamingHttpResponse:
    """Send what was found as a table; that somebody took it away is itself a record."""
    chosen = _chosen(request.POST)
    asked_for = {name: value for name, value in chosen.items() if value}
    audit.record("audit.exported", user=request.user, facts={"filters": asked_for})
    return spreadsheet.stream(_lines(_found(chosen)), filename="audit-log.csv")


def _chosen(query: Any) -> dict[str, str]:
    return {name: query.get(name, "").replace("\x00", "").strip()[:120] for name in FILTERS}


def _found(chosen: dict[str, str]) -> QuerySet[AuditRecord]:
    found = AuditRecord.objects.select_related("user", "agent")
    if chosen["user"]:
        found = found.filter(user_id=who) if (who := finding.identifier(chosen["user"])) else found.none()
    if chosen["agent"]:
        found = found.filter(agent__in=_agents(chosen["agent"]))
    if chosen["action"]:
        found = found.filter(Q(action=chosen["action"]) | Q(action__startswith=f"{chosen['action'].rstrip('.')}."))
    if chosen["subject"]:
        found = found.filter(subject__in=_subjects(chosen["subject"]))
    if (day := _day(chosen["since"])) is not None:
        found = found.filter(occurred_at__gte=day)
    if (day := _day(chosen["until"])) is not None:
        found = found.filter(occurred_at__lt=day + timedelta(days=1))
    return found


def _agents(text: str) -> list[Any]:
    identifier = finding.identifier(text)
    rows = Agent.objects.filter(pk=identifier) if identifier else Agent.objects.filter(handle=text)
    return list(rows.values_list("pk", flat=True))


def _subjects(text: str) -> list[str]:
    return [text] if ":" in text else [f"{kind}:{text}" for kind in KINDS]


def _day(text: str) -> datetime | None:
    try:
        day = datetime.combine(date.fromisoformat(text), time(), UTC) if text else None
    except ValueError:
        return None
    return None if day is None or day.year > LAST_YEAR else day


def _page(found: QuerySet[AuditRecord], *, before: str, limit: int) -> tuple[list[Row], int | None]:
    """Read the records before a number, newest first, and the number that the next page begins before."""
    if before.isascii() and before.isdecimal() and len(before) <= 18:
        found = found.filter(pk__lt=int(before))
    records = list(found.order_by("-pk")[: limit + 1])
    more = records[limit - 1].pk if len(records) > limit else None
    records = records[:limit]
    links = AuditLink.objects.filter(record_id__in=[record.pk for record in records])
    places = dict(links.values_list("record_id", "position"))
    return [Row(record, places.get(record.pk)) for record in records], more


def _lines(found: QuerySet[AuditRecord]) -> Iterator[list[str]]:
    yield list(COLUMNS)
    before: int | None = None
    while True:
        rows, before = _page(found, before=str(before or ""), limit=BATCH)
        for row in rows:
            yield _line(row)
        if before is None:
            return


def _line(row: Row) -> list[str]:
    record = row.record
    return [
        str(record.pk),
        time_text(record.occurred_at),
        f"{row.kind}: {row.who}" if row.who else row.kind,
        record.action,
        record.subject,
        bytes(record.before).hex() if record.before is not None else "",
        bytes(record.after).hex() if record.after is not None else "",
        row.what,
        record.reason,
        record.address,
        record.request_id,
        "" if row.position is None else str(row.position),
    ]


def _address(chosen: dict[str, str], **more: Any) -> str:
    return f"?{urlencode({name: value for name, value in (chosen | more).items() if value})}"
