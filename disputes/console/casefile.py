"""Everything about one case, read in a fixed number of statements, for one page."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import BinaryField, F, Func, Prefetch, QuerySet
from django.http import Http404

from disputes import effects
from disputes.console import findings, parties, timeline
from disputes.models import (
    Appeal,
    Assignment,
    Dispute,
    DisputeTransition,
    Evidence,
    Question,
    Ruling,
    RulingApproval,
)
from marketplace.models import Delivery, Job, Offer, Transition
from marketplace.terms import AgreedTerms

MAX_SHOWN = 20_000


class Change(NamedTuple):
    """One term that an offer changed."""

    field: str
    before: Any
    after: Any


class Version(NamedTuple):
    """An offer, and how it differs from the one before."""

    offer: Offer
    by: str
    agreed: bool
    changes: list[Change]


class Shown(NamedTuple):
    """Content of a party, as text that a page may show."""

    text: str
    cut: bool
    erased: bool = False


@dataclass(frozen=True)
class CaseFile:
    dispute: Dispute
    job: Job
    agreed: Offer | None
    terms: dict[str, Any]
    versions: list[Version]
    deliveries: list[tuple[Delivery, Shown]]
    items: list[tuple[Evidence, Shown]]
    questions: list[Question]
    rulings: list[Ruling]
    appeal: Appeal | None
    steps: list[timeline.Step]
    findings: list[findings.Finding]
    sides: list[parties.Side]
    deadline: effects.Deadline | None
    standing: Ruling | None
    proposed: Ruling | None


def read(case_id: UUID) -> CaseFile:
    """
    Read a case.

    :raises Http404: if there is none
    """
    dispute = find(case_id)
    job = dispute.job
    offers = list(Offer.objects.filter(job=job).order_by("number"))
    deliveries = _with_digest(Delivery.objects.filter(job=job), "body")
    items = _with_digest(Evidence.objects.filter(dispute=dispute), "content")
    questions = list(Question.objects.filter(dispute=dispute).select_related("asked_by").order_by("number"))
    rulings = list(
        Ruling.objects.filter(dispute=dispute)
        .select_related("author")
        .prefetch_related(Prefetch("approvals", RulingApproval.objects.select_related("by")))
        .order_by("number")
    )
    appeal = Appeal.objects.filter(dispute=dispute).select_related("decided_by").first()
    job_steps = list(Transition.objects.filter(job=job).order_by("revision"))
    case_steps = list(DisputeTransition.objects.filter(dispute=dispute).select_related("user").order_by("revision"))
    assignments = list(Assignment.objects.filter(dispute=dispute).select_related("to", "by").order_by("pk"))
    agreed = next((offer for offer in offers if offer.terms_hash == job.agreed_terms_hash), None)
    by_standing = {ruling.standing: ruling for ruling in rulings}
    standing = by_standing.get(Ruling.Standing.STANDING)
    dispute.standing = [standing] if standing else []  # type: ignore[attr-defined]  # as rulings.standing looks for it
    return CaseFile(
        dispute=dispute,
        job=job,
        agreed=agreed,
        terms=in_order(agreed.terms) if agreed else {},
        versions=_versions(offers, job, agreed),
        deliveries=[(row, _as_text(row.head, is_text=not row.is_file, is_json=True)) for row in deliveries],
        items=[
            (
                item,
                _as_text(item.head, is_text=item.kind != Evidence.Kind.FILE, is_json=item.kind == Evidence.Kind.JSON),
            )
            for item in items
        ],
        questions=questions,
        rulings=rulings,
        appeal=appeal,
        steps=timeline.of_case(
            job,
            offers=offers,
            job_steps=job_steps,
            case_steps=case_steps,
            deliveries=deliveries,
            items=items,
            questions=questions,
            rulings=rulings,
            assignments=assignments,
        ),
        findings=findings.of_case(
            dispute,
            job,
            agreed=agreed,
            deliveries=deliveries,
            steps=job_steps,
            case_steps=case_steps,
            items=items,
            questions=questions,
        ),
        sides=parties.of_case(dispute),
        deadline=effects.deadline_of(dispute, job, standing=standing),
        standing=standing,
        proposed=by_standing.get(Ruling.Standing.PROPOSED),
    )


def find(case_id: UUID) -> Dispute:
    """
    Read a case with its job and parties alone.

    :raises Http404: if there is none
    """
    rows = Dispute.objects.select_related("client", "seller", "job", "assigned_to")
    dispute = rows.filter(pk=case_id).first()
    if dispute is None:
        raise Http404("There is no such case.")
    return dispute


def in_order(terms: dict[str, Any]) -> dict[str, Any]:
    """Put terms into the order of the specification; the database keeps none."""
    return {field: terms[field] for field in _TERMS if field in terms} | terms


_TERMS = tuple(AgreedTerms().fields)


def _versions(offers: Sequence[Offer], job: Job, agreed: Offer | None) -> list[Version]:
    versions: list[Version] = []
    before: Offer | None = None
    for offer in offers:
        changes = _changes(before.terms, offer.terms) if before is not None else []
        by = "client" if offer.author_id == job.client_id else "seller"
        versions.append(Version(offer, by, offer == agreed, changes))
        before = offer
    return versions


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    fields = list(dict.fromkeys([*in_order(before), *in_order(after)]))
    return [
        Change(field, before.get(field), after.get(field)) for field in fields if before.get(field) != after.get(field)
    ]


def _with_digest(rows: QuerySet[Any], content: str) -> list[Any]:
    """Read rows with the digest of their bytes and the beginning of them; a hundred megabytes stay in the database."""
    head = Func(F(content), 1, MAX_SHOWN * 4 + 1, function="substring", output_field=BinaryField())
    digest = Func(F(content), function="sha256", output_field=BinaryField())
    return list(rows.defer(content).annotate(head=head, digest=digest).order_by("number"))


def _as_text(head: Any, *, is_text: bool, is_json: bool = False) -> Shown:
    """Show the beginning of what is stored; JSON in lines, as it is canonical and has none."""
    if head is None:
        return Shown("", False, erased=True)
    if not is_text:
        return Shown("", False)
    text = bytes(head).decode("utf-8", errors="replace")
    if is_json and len(text) <= MAX_SHOWN:
        with contextlib.suppress(ValueError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return Shown(text[:MAX_SHOWN], len(text) > MAX_SHOWN)
