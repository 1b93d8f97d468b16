"""Cases as JSON. Names of staff, private notes and rulings that nobody has made public have no way in here."""

from datetime import datetime
from typing import Any

from django.db.models import Prefetch, QuerySet

from accounts.api.fields import moment
from accounts.edge.fields import units_to_text
from accounts.models import Agent
from disputes import cases, deposits, effects, lifecycle
from disputes.lifecycle import Action
from disputes.models import Appeal, Dispute, Evidence, Party, Question, Ruling
from marketplace import effects as money
from marketplace import standstills

# Where each action of a party is asked for, below /v1.
_HREFS = {
    Action.ANSWER: "/v1/disputes/{case}/answer",
    Action.SUBMIT_EVIDENCE: "/v1/disputes/{case}/evidence",
    Action.SETTLE: "/v1/jobs/{job}/settlement-offers",
    Action.WITHDRAW: "/v1/disputes/{case}/withdrawal",
    Action.ASK_WITHDRAWAL: "/v1/disputes/{case}/withdrawal",
    Action.CONSENT_TO_WITHDRAWAL: "/v1/disputes/{case}/withdrawal",
    Action.ANSWER_QUESTION: "/v1/disputes/{case}/answers",
    Action.APPEAL: "/v1/disputes/{case}/appeal",
}


def whole(rows: QuerySet[Dispute]) -> QuerySet[Dispute]:
    """Load with each case what its rendering shows: four statements, however many cases."""
    standing = Ruling.objects.filter(standing=Ruling.Standing.STANDING)
    rows = rows.annotate(**standstills.since_in_sql())
    return rows.select_related("client", "seller", "job", "appeal").prefetch_related(
        Prefetch("evidence", Evidence.objects.order_by("number").defer("content"), to_attr="items"),
        Prefetch("questions", Question.objects.order_by("number"), to_attr="asked"),
        Prefetch("rulings", standing, to_attr="standing"),
    )


def dispute(dispute: Any, *, viewer: Agent, at: datetime) -> dict[str, Any]:
    """Show a case to one of its parties; `dispute` was loaded by `whole`."""
    ruling = dispute.standing[0] if dispute.standing else None
    appeal = getattr(dispute, "appeal", None)
    deadline = effects.deadline_of(dispute, dispute.job, standing=ruling)
    who = lifecycle.who_of(viewer, dispute)
    actions = lifecycle.available(dispute, who, at)
    return {
        "id": str(dispute.id),
        "job_id": str(dispute.job_id),
        "revision": dispute.revision,
        "state": dispute.state,
        "reason": dispute.reason,
        "opened_by": dispute.opened_by,
        "requested": _requested(dispute),
        "statements": _statements(dispute),
        "unanswered": dispute.unanswered,
        "deposit": _deposit(dispute),
        "awaiting": deadline.awaiting if deadline else None,
        "deadline": deadline and {"at": moment(deadline.at), "action": deadline.action, "effect": deadline.effect},
        "hard_stop_at": moment(dispute.hard_stop_at),
        "withdrawal_asked_at": moment(dispute.withdrawal_asked_at),
        "evidence": [evidence(item) for item in dispute.items],
        "evidence_erased_at": moment(dispute.evidence_erased_at),
        "questions": [_question(question) for question in dispute.asked],
        "available_actions": [_action(dispute, action) for action in actions],
        "created_at": moment(dispute.created_at),
        "closed_at": moment(dispute.closed_at),
        **({"ruling": _ruling(dispute, ruling)} if ruling else {}),
        **({"appeal": _appeal(appeal)} if appeal else {}),
    }


def evidence(item: Evidence) -> dict[str, Any]:
    return {
        "number": item.number,
        "by": item.by,
        "kind": item.kind,
        "content_type": item.content_type,
        "filename": item.filename or None,
        "sha256": f"sha256:{bytes(item.sha256).hex()}",
        "chain_hash": f"sha256:{bytes(item.chain_hash).hex()}",
        "size": item.size,
        "submitted_at": moment(item.submitted_at),
    }


def _requested(dispute: Dispute) -> dict[str, Any]:
    asked = {"by_client": dispute.requested_by_client_bps, "by_seller": dispute.requested_by_seller_bps}
    return {side: {"seller_bps": bps} for side, bps in asked.items() if bps is not None}


def _statements(dispute: Dispute) -> dict[str, str]:
    said = {f"by_{side}": getattr(dispute, f"statement_of_{side}") for side in Party.values}
    return {side: text for side, text in said.items() if text}


def _question(question: Question) -> dict[str, Any]:
    return {
        "id": str(question.id),
        "to": question.to,
        "text": question.text,
        "answer": question.answer,
        "asked_at": moment(question.asked_at),
        "answer_by": moment(question.answer_by),
        "answered_at": moment(question.answered_at),
    }


def _ruling(dispute: Dispute, ruling: Ruling) -> dict[str, Any]:
    return {
        "seller_bps": ruling.seller_bps,
        "redo": ruling.redo,
        "bond": ruling.bond_to,
        "deposits": ruling.deposit,
        "reason_codes": ruling.reason_codes,
        "reasons": ruling.reasons,
        "is_default": ruling.is_default,
        "on_appeal": ruling.on_appeal,
        "ruled_at": moment(ruling.ruled_at),
        "appeal_by": moment(dispute.appeal_by),
    }


def _appeal(appeal: Appeal) -> dict[str, Any]:
    return {
        "by": appeal.by,
        "grounds": appeal.grounds,
        "filed_at": moment(appeal.filed_at),
        "decide_by": moment(appeal.decide_by),
        "outcome": appeal.outcome,
        "reasons": appeal.reasons or None,
        "decided_at": moment(appeal.decided_at),
        "deposit": _deposit(appeal),
    }


def _deposit(of: Dispute | Appeal) -> dict[str, Any]:
    return {
        "due": units_to_text(of.deposit_due_units),
        "held": units_to_text(of.deposit_held_units),
        "went": of.deposit_went,
    }


def _action(dispute: Dispute, action: Action) -> dict[str, Any]:
    return {
        "action": action,
        "method": "POST",
        "href": _HREFS[action].format(case=dispute.id, job=dispute.job_id),
        "effects": [effect.rendered() for effect in _effects(dispute, action)],
    }


def _effects(dispute: Dispute, action: Action) -> list[money.Effect]:
    if action not in (Action.WITHDRAW, Action.CONSENT_TO_WITHDRAWAL):
        return []
    went = cases.deposit_on_withdrawal(dispute)
    moves = deposits.closing_moves(dispute, went=went, client_share_units=0, seller_share_units=0)
    return money.named(dispute.job, list(moves))
