"""The pages of the console about cases. Each translates, calls one verb, translates."""

from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.edge.retries import retrying
from accounts.errors import DomainError
from disputes import arbitration, assignment, decisions, lifecycle
from disputes.console import casefile
from disputes.console import queue as queues
from disputes.console.forms import RulingForm, SplitForm
from disputes.models import Reason, Ruling
from disputes.templatetags import console as named

# Shown beside the form; the ruling may differ.
DEFAULT_FAULT = (
    ("Seller wins fully", "back to the seller", "back if the seller opened the case, else to the seller"),
    ("Client wins fully", "to the client", "back if the client opened the case, else to the client"),
    ("Split", "back to the seller", "back to whoever paid it"),
)


def _for_case_staff(view: Any) -> Any:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.has_perm("disputes.view_dispute"):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


@_for_case_staff
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """List the cases that match the filters, most urgent first."""
    rows, more = queues.rows(request.GET, user=request.user, at=clock.now())
    query = request.GET.copy()
    query["after"] = more or ""
    return _page(
        request,
        "admin/cases/queue.html",
        title="Cases",
        rows=rows,
        more=f"?{query.urlencode()}" if more else None,
        chosen={name: request.GET.get(name, "") for name in ("assigned", "amount", "reason")}
        | {"state": request.GET.get("state", "under_review")},
        states=queues.STATES,
        assigned=queues.ASSIGNED,
        amounts=queues.AMOUNTS,
        reasons=Reason.choices,
    )


@_for_case_staff
@require_GET
def case(request: Any, case_id: UUID) -> HttpResponse:
    """Show everything about a case on one page."""
    return _case_page(request, casefile.read(case_id))


@_for_case_staff
@require_POST
def take(request: Any, case_id: UUID) -> HttpResponse:
    """Make a case one's own."""
    try:
        retrying(lambda: assignment.take(case_id, moderator=request.user))
        messages.success(request, "The case is yours.")
    except DomainError as refusal:
        messages.error(request, refusal.detail)
    return _to_case(case_id)


@_for_case_staff
@require_GET
def preview(request: Any, case_id: UUID) -> HttpResponse:
    """Answer what a ruling would post, entry by entry, reckoned by the code that posts it."""
    form = SplitForm(request.GET)
    if not form.is_valid():
        return JsonResponse({"error": "A share is 0 to 10,000 basis points."}, status=400)
    dispute = casefile.find(case_id)
    decision = form.decision()
    return JsonResponse(
        {
            "entries": [
                {"name": named.account_words(entry.account), "amount": named.signed_usdc(entry.amount_units)}
                for entry in decisions.entries(dispute, dispute.job, decision)
            ],
            "words": decisions.in_words(dispute, dispute.job, decision),
            "refusal": arbitration.needs_second_person(dispute, decision, []),
        }
    )


@_for_case_staff
@require_POST
def ruling(request: Any, case_id: UUID) -> HttpResponse:
    """Show what was filled in, and what it will do, once more before it counts."""
    file = casefile.read(case_id)
    form = RulingForm.for_case(file.dispute, request.POST)
    if not form.is_valid() or "change" in request.POST:
        return _case_page(request, file, form=form)
    refusal = arbitration.needs_second_person(file.dispute, form.decision(), form.cleaned_data["reason_codes"])
    if refusal:
        form.add_error(None, refusal)
        return _case_page(request, file, form=form)
    return _page(
        request,
        "admin/cases/confirm.html",
        title="Confirm the ruling",
        file=file,
        form=form,
        codes=[Reason(code).label for code in form.cleaned_data["reason_codes"]],
        entries=decisions.entries(file.dispute, file.job, form.decision()),
        words=decisions.in_words(file.dispute, file.job, form.decision()),
    )


@_for_case_staff
@require_POST
def confirm(request: Any, case_id: UUID) -> HttpResponse:
    """Rule. A second click finds the ruling made and changes nothing."""
    file = casefile.read(case_id)
    form = RulingForm.for_case(file.dispute, request.POST)
    if not form.is_valid():
        if _ruled_already(request, case_id):
            return _to_case(case_id)
        return _case_page(request, file, form=form)
    asked = form.cleaned_data
    try:
        retrying(
            lambda: arbitration.rule(
                case_id,
                moderator=request.user,
                revision=asked["revision"],
                decision=form.decision(),
                reason_codes=asked["reason_codes"],
                reasons=asked["reasons"],
                private_notes=asked["private_notes"],
            )
        )
    except DomainError as refusal:
        if isinstance(refusal, lifecycle.TransitionNotAllowed) and _ruled_already(request, case_id):
            return _to_case(case_id)
        form.add_error(None, refusal.detail)
        return _case_page(request, casefile.read(case_id), form=form)
    messages.success(request, "The ruling stands. Both parties were told.")
    return _to_case(case_id)


def _ruled_already(request: Any, case_id: UUID) -> bool:
    """Say so if this very ruling was made by an earlier click of the same person."""
    made = Ruling.objects.filter(
        dispute_id=case_id, author=request.user, revision=_number(request.POST.get("revision"))
    ).exists()
    if made:
        messages.info(request, "Your ruling was already made; nothing was changed.")
    return made


def _number(given: str | None) -> int:
    return int(given) if given and given.isascii() and given.isdigit() and len(given) < 9 else -1


def _case_page(request: HttpRequest, file: casefile.CaseFile, *, form: RulingForm | None = None) -> HttpResponse:
    at = clock.now()
    powers = casefile.powers_of(request.user, file.dispute, at)
    form = form or RulingForm.for_case(file.dispute)
    entries, preview_words = _preview_of(file, form)
    return _page(
        request,
        "admin/cases/case.html",
        title=f"Case {str(file.dispute.pk)[-6:]}",
        file=file,
        light=queues.light_of(file.dispute, at),
        powers=powers,
        form=form,
        shown_bps=_shown_bps(form),
        entries=entries,
        preview_words=preview_words,
        fault_table=DEFAULT_FAULT,
    )


def _preview_of(file: casefile.CaseFile, form: RulingForm) -> tuple[list[Any], str]:
    split = SplitForm(form.data if form.is_bound else form.initial)
    if not split.is_valid():
        return [], ""
    decision = split.decision()
    return (
        decisions.entries(file.dispute, file.job, decision),
        decisions.in_words(file.dispute, file.job, decision),
    )


def _shown_bps(form: RulingForm) -> int:
    given = _number(str(form["seller_bps"].value()))
    return given if 0 <= given <= 10_000 else 5_000


def _to_case(case_id: UUID) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:case", args=[case_id]))


def _page(request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
    request.current_app = admin.site.name
    return TemplateResponse(
        request, template, admin.site.each_context(request) | {"is_nav_sidebar_enabled": False} | context
    )
