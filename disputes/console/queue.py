"""The queue: cases in the order in which they need somebody, a page at a time."""

from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Case, CharField, F, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce

from accounts.models import User
from disputes.console import finding, keyset
from disputes.models import Dispute, Reason
from disputes.table import AWAITING

PAGE = 50
S = Dispute.State
STATES = {
    "under_review": "Waiting for a ruling",
    "staff": "Waiting for staff",
    "live": "All living cases",
    "all": "All cases, newest first",
    **{value: label for value, label in S.choices if value != "under_review"},
}
ASSIGNED = {"": "Anyone", "me": "Me", "nobody": "Nobody"}
AMOUNTS = {"": "Any amount", "small": "Below 10 USDC", "middle": "10 to 100 USDC", "large": "100 USDC and more"}
# Days since a case was opened: from, and up to.
AGES: dict[str, tuple[str, int, int | None]] = {
    "day": ("Less than 1 day", 0, 1),
    "days": ("1 to 3 days", 1, 3),
    "week": ("3 to 7 days", 3, 7),
    "fortnight": ("7 to 14 days", 7, 14),
    "older": ("14 days and more", 14, None),
}
LIGHTS = {"late": "Past its time", "soon": "More than half used", "calm": "In time"}
# How long staff have for their step in a state, in columns of the row.
WINDOWS = {
    S.UNDER_REVIEW: "ruling_seconds",
    S.AWAITING_APPROVAL: "approval_seconds",
    S.APPEALED: "appeal_hearing_seconds",
}
# A second word is asked for twice: of a colleague, then of a senior. The state lasts for both.
TIMES = {S.AWAITING_APPROVAL: 2}


class Row(NamedTuple):
    dispute: Dispute
    light: str  # calm, soon, late


def rows(query: Any, *, user: Any, at: datetime, limit: int | None = None) -> tuple[list[Row], str | None]:
    """
    Find a page of cases, and the cursor of the next one.

    `query` has strings: `state`, `assigned`, `amount`, `age`, `reason`, `light`, `q` (what is searched for), `after`.
    """
    found = _filtered(query, user, at)
    page, more = keyset.page(found, _order(state_of(query)), after=query.get("after", ""), limit=limit or PAGE)
    return [Row(dispute, dispute.light) for dispute in page], more


def state_of(query: Any) -> str:
    """Say which cases are asked for: who searches means all of them, who says nothing those that wait for a ruling."""
    given = query.get("state", "")
    return given if given in STATES else "all" if query.get("q", "").strip() else "under_review"


def light_of(dispute: Dispute, at: datetime) -> str:
    """
    Say how much of the staff's time for a step is used: below half calm, beyond it soon, over it late.

    While a question is open the clock stands still, and so does the light. The database says the same (`lit`).
    """
    window = WINDOWS.get(S(dispute.state))
    due = _due(dispute)
    if window is None or due is None:
        return "calm"
    left = (due - (dispute.clock_stopped_at or at)).total_seconds()
    half = getattr(dispute, window) * TIMES.get(S(dispute.state), 1) / 2
    return "late" if left <= 0 else "soon" if left <= half else "calm"


def _due(dispute: Dispute) -> datetime | None:
    """A question moves the end of the state, but not how much of the time for a ruling is used."""
    return dispute.rule_by if dispute.clock_stopped_at else dispute.deadline_at


def lit(found: QuerySet[Dispute], at: datetime) -> QuerySet[Any]:
    """Add the light of each row, as `light_of` says it."""
    due = Case(When(clock_stopped_at__isnull=False, then=F("rule_by")), default=F("deadline_at"))
    now = Coalesce(F("clock_stopped_at"), Value(at))
    whens = [When(~Q(state__in=list(WINDOWS)), then=Value("calm")), When(_due_at__lte=F("_now"), then=Value("late"))]
    for state, window in WINDOWS.items():
        used = F("_now") + keyset.Seconds(F(window), times=TIMES.get(state, 1) / 2)
        whens.append(When(Q(state=state, _due_at__lte=used), then=Value("soon")))
    return found.alias(_due_at=due, _now=now).annotate(
        light=Case(*whens, default=Value("calm"), output_field=CharField())
    )


def moderators() -> list[User]:
    """List by name everybody who may have a case."""
    may = get_user_model().objects.with_perm(
        "disputes.rule", backend="django.contrib.auth.backends.ModelBackend", include_superusers=True
    )
    return list(may.filter(is_staff=True).order_by("username").only("pk", "username"))


def _order(state: str) -> keyset.Order:
    if state == "all":
        return keyset.Order("pk", newest_first=True)
    return keyset.Order("closed_at", newest_first=True) if state in S.values and _is_closed(state) else DUE_FIRST


DUE_FIRST = keyset.Order("deadline_at")


def _is_closed(state: str) -> bool:
    return S(state) in Dispute.CLOSED


def _filtered(query: Any, user: Any, at: datetime) -> QuerySet[Dispute]:
    found = Dispute.objects.select_related("client", "seller", "assigned_to").defer(
        "statement_of_client", "statement_of_seller"
    )
    match state_of(query):
        case "live":
            found = found.filter(closed_at=None)
        case "staff":
            found = found.filter(closed_at=None, state__in=list(AWAITING))
        case state if state != "all":
            # both columns of the index of closed cases, and of the living ones' too
            found = found.filter(state=state, closed_at__isnull=not _is_closed(state))
    found = _assigned(found, query.get("assigned", ""), user)
    match query.get("amount", ""):
        case "small":
            found = found.filter(price_units__lt=10_000_000)
        case "middle":
            found = found.filter(price_units__gte=10_000_000, price_units__lt=100_000_000)
        case "large":
            found = found.filter(price_units__gte=100_000_000)
    if (reason := query.get("reason", "")) in Reason.values:
        found = found.filter(reason=reason)
    if age := AGES.get(query.get("age", "")):
        found = found.filter(keyset.opened_between(at, *age[1:]))
    shining = lit(found, at)
    if (light := query.get("light", "")) in LIGHTS:
        shining = shining.filter(light=light)
    return finding.cases(shining, sought) if (sought := query.get("q", "").strip()) else shining


def _assigned(found: QuerySet[Dispute], whose: str, user: Any) -> QuerySet[Dispute]:
    match whose:
        case "":
            return found
        case "me":
            return found.filter(assigned_to=user)
        case "nobody":
            return found.filter(assigned_to=None)
    identifier = finding.identifier(whose)
    return found.filter(assigned_to=identifier) if identifier else found
