"""Everything about one case, read in a fixed number of statements, for one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import BinaryField, F, Func, QuerySet
from django.http import Http404

from disputes import conflicts, effects, lifecycle
from disputes.console import findings
from disputes.lifecycle import Action, Who
from disputes.models import Dispute, DisputeTransition, Evidence, Question, Ruling
from marketplace.models import Delivery, Job, Offer, Transition
from marketplace.terms import AgreedTerms

MAX_SHOWN = 20_000


class Step(NamedTuple):
    """One line of the time line."""

    at: datetime
    by: str
    what: str
    detail: str
    about: str  # job or case: the colour of the dot


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
    steps: list[Step]
    findings: list[findings.Finding]
    deadline: effects.Deadline | None
    standing: Ruling | None


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
    rulings = list(Ruling.objects.filter(dispute=dispute).select_related("author").order_by("number"))
    job_steps = list(Transition.objects.filter(job=job).order_by("revision"))
    case_steps = list(DisputeTransition.objects.filter(dispute=dispute).select_related("user").order_by("revision"))
    agreed = next((offer for offer in offers if offer.terms_hash == job.agreed_terms_hash), None)
    standing = next((ruling for ruling in rulings if ruling.standing == Ruling.Standing.STANDING), None)
    return CaseFile(
        dispute=dispute,
        job=job,
        agreed=agreed,
        terms=in_order(agreed.terms) if agreed else {},
        versions=_versions(offers, job, agreed),
        deliveries=[(row, _as_text(row.head, is_text=not row.is_file)) for row in deliveries],
        items=[(item, _as_text(item.head, is_text=item.kind != Evidence.Kind.FILE)) for item in items],
        questions=list(Question.objects.filter(dispute=dispute).order_by("number")),
        rulings=rulings,
        steps=_time_line(job_steps, case_steps, deliveries),
        findings=findings.of_case(dispute, job, agreed=agreed, deliveries=deliveries, steps=job_steps, items=items),
        deadline=effects.deadline_of(dispute, job, standing=standing),
        standing=standing,
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


class Powers(NamedTuple):
    """What this member of staff may do with the case now, and if nothing, why."""

    may_rule: bool
    may_take: bool
    why_not: str


def powers_of(user: Any, dispute: Dispute, at: datetime) -> Powers:
    allowed = lifecycle.available(dispute, Who.MODERATOR, at)
    if Action.RULE not in allowed:
        return Powers(False, False, "")
    if not user.has_perm("disputes.rule"):
        return Powers(False, False, "You may read this case; ruling is for moderators.")
    if dispute.assigned_to_id not in (None, user.id):
        return Powers(False, False, f"{dispute.assigned_to} has this case.")
    if conflict := conflicts.found(user, dispute):
        return Powers(False, False, f"{conflict} A colleague must decide.")
    return Powers(True, dispute.assigned_to_id is None, "")


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


def _time_line(
    job_steps: Sequence[Transition], case_steps: Sequence[DisputeTransition], deliveries: Sequence[Delivery]
) -> list[Step]:
    numbered = iter(deliveries)
    steps = []
    for step in job_steps:
        if step.action == "dispute":
            continue  # the case's own first line says it
        detail = step.note
        if step.action == "deliver" and (row := next(numbered, None)):
            detail = f"delivery {row.number}, {row.size} bytes. {row.note}".strip()
        steps.append(Step(step.occurred_at, step.by, step.action, detail, "job"))
    for case_step in case_steps:
        by = f"{case_step.by} ({case_step.user})" if case_step.user else case_step.by
        steps.append(Step(case_step.occurred_at, by, case_step.action, case_step.note, "case"))
    return sorted(steps, key=lambda step: step.at)


def _with_digest(rows: QuerySet[Any], content: str) -> list[Any]:
    """Read rows with the digest of their bytes and the beginning of them; a hundred megabytes stay in the database."""
    head = Func(F(content), 1, MAX_SHOWN * 4 + 1, function="substring", output_field=BinaryField())
    digest = Func(F(content), function="sha256", output_field=BinaryField())
    return list(rows.defer(content).annotate(head=head, digest=digest).order_by("number"))


def _as_text(head: Any, *, is_text: bool) -> Shown:
    if not is_text or head is None:
        return Shown("", False)
    text = bytes(head).decode("utf-8", errors="replace")
    return Shown(text[:MAX_SHOWN], len(text) > MAX_SHOWN)
