"""
A case as a document: everything that its parties may see of it, and nothing else.

Members of staff have no names here, private notes and rulings that never stood no way in; money is told by what moved,
never by what anybody has.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from accounts.edge.fields import units_to_text
from accounts.errors import TryLater
from disputes import filetypes
from disputes.models import Appeal, Dispute, DisputeTransition, Evidence, Party, Question, Ruling
from escrow.ledger import Move
from escrow.models import Entry, LedgerAccount, Transfer
from marketplace import effects
from marketplace.models import Delivery, Job, Offer, State, Transition

FORMAT = "bailee-case/1"
_READINGS = 3


def read(dispute_id: UUID, *, for_role: str | None = None) -> dict[str, Any]:
    """
    Read a case as one JSON document, all of it at one revision of case and job, without locking a row.

    Evidence and deliveries carry the name (`file`) under which their content goes with it, null where that is erased or
    not for this party to see.

    :raises TryLater: if the case did not stand still for one reading
    """
    for _ in range(_READINGS):
        dispute = Dispute.objects.select_related("client", "seller").get(pk=dispute_id)
        job = Job.objects.get(pk=dispute.job_id)
        document = _document(dispute, job, for_role)
        now = Dispute.objects.filter(pk=dispute_id).values_list("revision", "job__revision").get()
        if now == (dispute.revision, job.revision):
            return document
    raise TryLater("The case is moving: ask again.")


def _document(dispute: Dispute, job: Job, for_role: str | None) -> dict[str, Any]:
    appeal = Appeal.objects.filter(dispute=dispute).first()
    rulings = _rulings(dispute, appeal)
    hidden = for_role == Party.CLIENT and _is_hidden_from_client(job)
    return {
        "format": FORMAT,
        "case": _case(dispute),
        "parties": {
            "client": {"id": str(dispute.client_id), "handle": dispute.client.handle},
            "seller": {"id": str(dispute.seller_id), "handle": dispute.seller.handle},
        },
        "job": _job(job),
        "offers": [_offer(offer, job) for offer in Offer.objects.filter(job=job).order_by("number")],
        "deliveries": [
            _delivery(row, hidden=hidden) for row in Delivery.objects.filter(job=job).defer("body").order_by("number")
        ],
        "time_line": _time_line(dispute, job),
        "statements": {"by_client": dispute.statement_of_client, "by_seller": dispute.statement_of_seller},
        "evidence": [_item(item) for item in _items(dispute)],
        "questions": [_question(row) for row in Question.objects.filter(dispute=dispute).order_by("number")],
        "rulings": [_ruling(ruling) for ruling in rulings],
        "appeal": _appeal(appeal) if appeal else None,
        "outcome": _outcome(dispute, rulings),
        "ledger": _ledger(dispute, job),
    }


def _case(dispute: Dispute) -> dict[str, Any]:
    return {
        "id": str(dispute.pk),
        "job_id": str(dispute.job_id),
        "revision": dispute.revision,
        "state": dispute.state,
        "reason": dispute.reason,
        "opened_by": dispute.opened_by,
        "price": units_to_text(dispute.price_units),
        "bond": units_to_text(dispute.bond_units),
        "requested": {
            "by_client_bps": dispute.requested_by_client_bps,
            "by_seller_bps": dispute.requested_by_seller_bps,
        },
        "unanswered": dispute.unanswered,
        "deposit": _deposit(dispute),
        "opened_at": _moment(dispute.created_at),
        "answer_by": _moment(dispute.answer_by),
        "answered_at": _moment(dispute.answered_at),
        "evidence_by": _moment(dispute.evidence_by),
        "appeal_by": _moment(dispute.appeal_by),
        "hard_stop_at": _moment(dispute.hard_stop_at),
        "closed_at": _moment(dispute.closed_at),
        "evidence_erased_at": _moment(dispute.evidence_erased_at),
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.pk),
        "revision": job.revision,
        "state": job.state,
        "agreed_terms_hash": job.agreed_terms_hash,
        "fee_bps": job.fee_bps,
        "revisions_used": job.revisions_used,
        "funded_at": _moment(job.funded_at),
        "deliver_by": _moment(job.deliver_by),
        "closed_at": _moment(job.closed_at),
    }


def _offer(offer: Offer, job: Job) -> dict[str, Any]:
    return {
        "number": offer.number,
        "by": "client" if offer.author_id == job.client_id else "seller",
        "terms": offer.terms,
        "terms_hash": offer.terms_hash,
        "agreed": offer.terms_hash == job.agreed_terms_hash,
        "message": offer.message,
        "made_at": _moment(offer.created_at),
    }


def _is_hidden_from_client(job: Job) -> bool:
    """Say whether the terms reveal the work on payment alone, and it is not paid."""
    agreed = Offer.objects.filter(job=job, terms_hash=job.agreed_terms_hash).first()
    return agreed is not None and agreed.terms.get("reveal") == "on_payment" and job.state != State.COMPLETED


def _delivery(row: Delivery, *, hidden: bool) -> dict[str, Any]:
    return {
        "number": row.number,
        "sha256": row.sha256,
        "size": row.size,
        "content_type": row.content_type,
        "filename": row.filename,
        "note": row.note,
        "delivered_at": _moment(row.delivered_at),
        "file": None if hidden else f"deliveries/{row.number}.{'bin' if row.is_file else 'json'}",
    }


def _time_line(dispute: Dispute, job: Job) -> list[dict[str, Any]]:
    """Put the steps of job and case into one line. Which member of staff took one is not read at all."""
    columns = ("action", "by", "from_state", "to_state", "note", "occurred_at", "revision")
    rows = [("job", *row) for row in Transition.objects.filter(job=job).values_list(*columns)]
    rows += [("case", *row) for row in DisputeTransition.objects.filter(dispute=dispute).values_list(*columns)]
    rows.sort(key=lambda row: (row[6], row[0] == "case", row[7]))
    return [
        {"of": of, "action": action, "by": by, "from": origin or None, "to": to, "note": note, "at": _moment(at)}
        for of, action, by, origin, to, note, at, _ in rows
    ]


def _items(dispute: Dispute) -> list[Any]:
    rows = Evidence.objects.filter(dispute=dispute).defer("content").order_by("number")
    return list(rows.annotate(kept=Q(content__isnull=False)))


def _item(item: Any) -> dict[str, Any]:
    """Describe an item by what its `chain_hash` is reckoned from (docs/disputes.md)."""
    return {
        "number": item.number,
        "by": item.by,
        "kind": item.kind,
        "content_type": item.content_type,
        "filename": item.filename,
        "size": item.size,
        "sha256": bytes(item.sha256).hex(),
        "chain_hash": bytes(item.chain_hash).hex(),
        "submitted_at": item.submitted_at.astimezone(UTC).isoformat(timespec="microseconds"),
        # Named by us: a party's file name goes to no disk.
        "file": f"evidence/{item.number}.{filetypes.extension_of(item.content_type)}" if item.kept else None,
    }


def _question(row: Question) -> dict[str, Any]:
    return {
        "number": row.number,
        "to": row.to,
        "text": row.text,
        "asked_at": _moment(row.asked_at),
        "answer_by": _moment(row.answer_by),
        "answer": row.answer,
        "answered_at": _moment(row.answered_at),
    }


def _rulings(dispute: Dispute, appeal: Appeal | None) -> list[Ruling]:
    """Find those that stood: the one in force, and the one that was appealed and replaced."""
    stood = Q(standing=Ruling.Standing.STANDING) | Q(pk=appeal.against_id if appeal else None)
    return list(Ruling.objects.filter(stood, dispute=dispute).order_by("number"))


def _ruling(ruling: Ruling) -> dict[str, Any]:
    return {
        "seller_bps": ruling.seller_bps,
        "seller_share": None if ruling.seller_units is None else units_to_text(ruling.seller_units),
        "redo": ruling.redo,
        "bond": ruling.bond_to,
        "deposits": ruling.deposit,
        "appeal_deposit": ruling.appeal_deposit,
        "reason_codes": ruling.reason_codes,
        "reasons": ruling.reasons,
        "is_default": ruling.is_default,
        "on_appeal": ruling.on_appeal,
        "in_force": ruling.standing == Ruling.Standing.STANDING,
        "ruled_at": _moment(ruling.ruled_at),
    }


def _appeal(appeal: Appeal) -> dict[str, Any]:
    return {
        "by": appeal.by,
        "grounds": appeal.grounds,
        "deposit": _deposit(appeal),
        "filed_at": _moment(appeal.filed_at),
        "decide_by": _moment(appeal.decide_by),
        "outcome": appeal.outcome,
        "reasons": appeal.reasons,
        "decided_at": _moment(appeal.decided_at),
    }


def _deposit(of: Dispute | Appeal) -> dict[str, Any]:
    return {
        "due": units_to_text(of.deposit_due_units),
        "held": units_to_text(of.deposit_held_units),
        "went": of.deposit_went,
    }


def _outcome(dispute: Dispute, rulings: list[Ruling]) -> dict[str, Any] | None:
    if dispute.closed_at is None:
        return None
    in_force = next((ruling for ruling in rulings if ruling.standing == Ruling.Standing.STANDING), None)
    return {
        "state": dispute.state,
        "seller_bps": in_force.seller_bps if in_force else None,
        "redo": in_force.redo if in_force else False,
        "lost_by": dispute.lost_by,
        "closed_at": _moment(dispute.closed_at),
    }


def _ledger(dispute: Dispute, job: Job) -> list[dict[str, Any]]:
    """List the transfers that touched what was held for job and case; of balances nothing is said."""
    held = LedgerAccount.objects.filter(
        Q(kind__in=["hold", "bond"], owner_key=job.hold_key)
        | Q(kind="dispute_deposit", owner_key__in=[dispute.deposit_key, f"dispute:{dispute.pk}:appeal"])
    )
    touched = Entry.objects.filter(account__in=held).values("transfer")
    moves: dict[int, list[Move]] = {}
    for entry in Entry.objects.filter(transfer__in=touched).select_related("account").order_by("id"):
        move = Move(entry.account.kind, entry.account.owner_key, entry.amount)
        moves.setdefault(entry.transfer_id, []).append(move)
    return [
        {
            "reference": transfer.reference,
            "kind": transfer.kind,
            "at": _moment(transfer.occurred_at),
            "entries": [effect.rendered() for effect in effects.named(job, moves[transfer.pk])],
        }
        for transfer in Transfer.objects.filter(pk__in=moves).order_by("occurred_at", "pk")
    ]


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
