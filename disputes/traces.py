"""What leads back to a case: who and what is named in it, its amounts, and the words that its parties wrote."""

from collections.abc import Iterator
from typing import Any

from django.db.models import BinaryField, F, Func, Q, QuerySet

from accounts.models import Agent
from disputes import anonymity
from disputes.models import Dispute, Evidence, Question, Ruling
from marketplace.models import Delivery, Job, Offer, Transition

# Of each text of a party this much is searched for quotations.
MAX_TEXT_BYTES = 1_000_000


def of(dispute: Dispute, job: Job, ruling: Ruling, *, told: str) -> anonymity.Known:
    """Gather the names, amounts and texts that a text about the case (`told`) must not repeat."""
    return anonymity.Known(
        names=[*_names(dispute, job), *_staff(dispute), *_agents_named_in(told)],
        amounts_units=_amounts(dispute, job, ruling),
        texts=_texts(dispute, job),
    )


def _names(dispute: Dispute, job: Job) -> Iterator[tuple[str, str]]:
    for side, agent in (("client", dispute.client), ("seller", dispute.seller)):
        yield agent.handle, f"[{side}]"
        yield agent.display_name, f"[{side}]"
    for title in Offer.objects.filter(job=job).values_list("terms__title", flat=True):
        yield str(title), "[title]"
    if job.listing:
        yield job.listing.title, "[title]"


def _staff(dispute: Dispute) -> Iterator[tuple[str, str]]:
    seen = [ruling.author for ruling in dispute.rulings.select_related("author")]
    seen += [step.user for step in dispute.transitions.exclude(user=None).select_related("user")]
    for user in {user for user in [*seen, dispute.assigned_to, dispute.approver] if user}:
        yield user.username, "[moderator]"
        yield user.get_full_name(), "[moderator]"


def _agents_named_in(text: str) -> Iterator[tuple[str, str]]:
    """Find other agents by their handles: only those that no plain word looks like."""
    words = {word for word in anonymity.words_of(text) if "-" in word or any(c.isdigit() for c in word)}
    for handle in Agent.objects.filter(handle__in=words).values_list("handle", flat=True):
        yield handle, "[agent]"


def _amounts(dispute: Dispute, job: Job, ruling: Ruling) -> frozenset[int]:
    appeal = getattr(dispute, "appeal", None)
    amounts = {
        dispute.price_units,
        dispute.bond_units,
        dispute.deposit_due_units,
        dispute.deposit_held_units,
        job.client_abort_fee_units,
        ruling.seller_units or 0,
        appeal.deposit_due_units if appeal else 0,
    }
    return frozenset(amounts - {0})


def _texts(dispute: Dispute, job: Job) -> Iterator[str]:
    """Read what the parties wrote, one text at a time."""
    yield dispute.statement_of_client
    yield dispute.statement_of_seller
    yield from (
        answer for answer in Question.objects.filter(dispute=dispute).values_list("answer", flat=True) if answer
    )
    if appeal := getattr(dispute, "appeal", None):
        yield appeal.grounds
    yield from Offer.objects.filter(job=job).values_list("message", flat=True)
    yield from Transition.objects.filter(job=job).exclude(note="").values_list("note", flat=True)
    yield from _beginnings(Evidence.objects.filter(dispute=dispute), "content")
    yield from Delivery.objects.filter(job=job).values_list("note", flat=True)
    yield from _beginnings(Delivery.objects.filter(job=job), "body")


def _beginnings(rows: QuerySet[Any], column: str) -> Iterator[str]:
    """Read the beginning of each row that holds text, one row at a time."""
    readable = rows.filter(Q(content_type__startswith="text/") | Q(content_type__startswith="application/json"))
    head = Func(F(column), 1, MAX_TEXT_BYTES, function="substring", output_field=BinaryField())
    for pk in list(readable.values_list("pk", flat=True)):
        found = rows.annotate(head=head).values_list("head", flat=True).get(pk=pk)
        yield bytes(found or b"").decode("utf-8", errors="replace")
