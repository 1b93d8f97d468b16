"""The page of a case, and the ruling that is made on it. Each translates, calls one verb, translates."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, idempotency
from accounts.errors import DomainError
from disputes import appeals, arbitration, decisions, lifecycle, precedents, rulings
from disputes.console import asking, casefile, guidance, powers, timeline
from disputes.console import queue as queues
from disputes.console.asking import page as _page
from disputes.console.doors import for_staff_who
from disputes.console.forms import PreviewForm, RulingForm, SplitForm
from disputes.decisions import Decision
from disputes.models import Dispute, Reason
from disputes.templatetags import console as named

# Shown beside the form; the ruling may differ.
DEFAULT_FAULT = (
    ("Seller wins fully", "back to the seller", "back if the seller opened the case, else to the seller"),
    ("Client wins fully", "to the client", "back if the client opened the case, else to the client"),
    ("Split", "back to the seller", "back to whoever paid it"),
)
LIKE_SHOWN = 3


def for_case_staff(view: Any) -> Any:
    """Let those in who see cases; what they show is kept by no cache."""
    return never_cache(for_staff_who("disputes.view_dispute")(view))


@for_case_staff
@require_GET
def case(request: Any, case_id: UUID) -> HttpResponse:
    """Show everything about a case on one page."""
    return _case_page(request, casefile.read(case_id))


@for_case_staff
@require_GET
def preview(request: Any, case_id: UUID) -> HttpResponse:
    """Answer what a ruling would post, entry by entry, reckoned by the code that posts it."""
    form = PreviewForm(request.GET)
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
            "second": _second(dispute, decision, form.cleaned_data["reason_codes"]),
        }
    )


@for_case_staff
@require_POST
def ruling(request: Any, case_id: UUID) -> HttpResponse:
    """Show what was filled in, and what it will do, once more before it counts."""
    file = casefile.read(case_id)
    form = RulingForm.for_case(file.dispute, file.job, request.POST)
    if not form.is_valid() or "change" in request.POST:
        return _case_page(request, file, form=form)
    decision, codes = form.decision(), form.cleaned_data["reason_codes"]
    return _page(
        request,
        "admin/cases/confirm.html",
        title="Confirm the ruling",
        file=file,
        form=form,
        decision=decision,
        codes=[Reason(code).label for code in codes],
        entries=decisions.entries(file.dispute, file.job, decision),
        words=decisions.in_words(file.dispute, file.job, decision),
        second=_second(file.dispute, decision, codes),
        on_appeal=lifecycle.is_appealed(file.dispute),
    )


@for_case_staff
@require_POST
def confirm(request: Any, case_id: UUID) -> HttpResponse:
    """Rule, or replace the ruling that is appealed. A second click changes nothing; what is refused keeps its words."""
    dispute = casefile.find(case_id)
    form = RulingForm.for_case(dispute, dispute.job, request.POST)
    if not form.is_valid():
        return _case_page(request, casefile.read(case_id), form=form)
    verb, who = (appeals.replace, "senior") if lifecycle.is_appealed(dispute) else (arbitration.rule, "moderator")
    try:
        ruled = asking.do_once(
            request,
            form,
            lambda said: verb(
                case_id,
                **{who: request.user},
                revision=said["revision"],
                decision=form.decision(),
                reason_codes=said["reason_codes"],
                reasons=said["reasons"],
                private_notes=said["private_notes"],
            ),
        )
    except asking.DoneBefore:
        messages.info(request, "Your ruling was already made; nothing was changed.")
    except idempotency.KeyReused:
        messages.error(request, asking.USED_UP)
    except DomainError as refusal:
        return _refused(request, case_id, refusal)
    else:
        messages.success(request, _done(ruled))
    return to_case(case_id)


def to_case(case_id: UUID) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:case", args=[case_id]))


def _done(dispute: Dispute) -> str:
    if lifecycle.awaits_approval(dispute) or lifecycle.is_appealed(dispute):
        return "Your ruling waits for a second person. Nothing is posted, and nobody is told, before they agree."
    if dispute.closed_at is not None:
        return "The appeal is decided and the money has moved. Both parties were told."
    return "The ruling stands. Both parties were told."


def _refused(request: Any, case_id: UUID, refusal: DomainError) -> HttpResponse:
    """Show the case as it is now, with what happened meanwhile and everything that was typed."""
    file = casefile.read(case_id)
    form = RulingForm.read_anew(file.dispute, file.job, request.POST)
    form.is_valid()
    form.add_error(None, refusal.detail)
    return _case_page(request, file, form=form, news=timeline.since(file.steps, _number(request.POST.get("revision"))))


def _case_page(
    request: Any, file: casefile.CaseFile, *, form: RulingForm | None = None, news: list[timeline.Step] | None = None
) -> HttpResponse:
    at = clock.now()
    dispute, job = file.dispute, file.job
    mine = powers.of(request.user, dispute, at, proposed=file.proposed)
    form = form or RulingForm.for_case(dispute, job)
    entries, preview_words, second = _preview_of(file, form)
    waiting = decisions.of_ruling(file.proposed) if file.proposed else None
    outcomes = precedents.similar(dispute)
    return _page(
        request,
        "admin/cases/case.html",
        title=f"Case {named.short_id(dispute.pk)}",
        file=file,
        light=queues.light_of(dispute, at),
        clock=guidance.clock_of(dispute),
        next_step=guidance.of(request.user, dispute, mine, questions=file.questions, proposed=file.proposed, at=at),
        powers=mine,
        form=form,
        news=news,
        shown_bps=_shown_bps(form),
        entries=entries,
        preview_words=preview_words,
        second=second,
        proposed_entries=decisions.entries(dispute, job, waiting) if waiting else None,
        proposed_words=decisions.in_words(dispute, job, waiting) if waiting else "",
        fault_table=DEFAULT_FAULT,
        outcomes=outcomes,
        outcome_rows=_outcome_rows(outcomes),
        like=precedents.search(reason=dispute.reason).exclude(dispute=dispute)[:LIKE_SHOWN],
    )


def _outcome_rows(outcomes: precedents.Outcomes) -> list[tuple[str, int]]:
    return [
        ("Everything to the seller", outcomes.seller_full),
        ("Divided", outcomes.split),
        ("Everything to the client", outcomes.client_full),
        ("The work done again", outcomes.redo),
        ("Default: nobody ruled", outcomes.defaults),
    ]


def _preview_of(file: casefile.CaseFile, form: RulingForm) -> tuple[list[Any], str, str | None]:
    split = SplitForm(form.data if form.is_bound else form.initial)
    if not split.is_valid():
        return [], "", None
    decision = split.decision()
    codes = form.data.getlist("reason_codes") if isinstance(form.data, QueryDict) else []
    return (
        decisions.entries(file.dispute, file.job, decision),
        decisions.in_words(file.dispute, file.job, decision),
        _second(file.dispute, decision, codes),
    )


def _second(dispute: Dispute, decision: Decision, codes: list[str]) -> str | None:
    """Say why a colleague must agree, or None."""
    replaced = rulings.standing(dispute) if lifecycle.is_appealed(dispute) else None
    return arbitration.needs_second_person(dispute, decision, codes, replaces=replaced)


def _shown_bps(form: RulingForm) -> int:
    given = _number(str(form["seller_bps"].value()))
    return given if 0 <= given <= 10_000 else 5_000


def _number(given: str | None) -> int:
    return int(given) if given and given.isascii() and given.isdigit() and len(given) < 9 else -1
