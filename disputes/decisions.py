"""
How a case is decided, as a plan of money: the ruling posts it, the preview shows it, the words are written from it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from accounts.edge.fields import units_to_text
from disputes import deposits
from disputes.models import Appeal, Deposit, Dispute, Party, Reason, Ruling
from escrow import holds
from escrow.ledger import Move
from marketplace import effects
from marketplace.models import Job

Side = Literal["client", "seller"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A split of the price before the fee, and what becomes of bond and deposits."""

    seller_bps: int
    bond_to: Side
    deposit: str = Deposit.BACK
    # Where the seller's share is no round number of basis points.
    seller_units: int | None = None
    # The work is done again instead of being paid for; share and bond then wait.
    redo: bool = False
    # Unless it is said, it comes back if the appellant fares better than under the ruling that was appealed.
    appeal_deposit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Default:
    """What is decided when staff are silent, and the sentence that says why."""

    decision: Decision
    reason_codes: tuple[str, ...]
    reasons: str


def of_ruling(ruling: Ruling) -> Decision:
    return Decision(
        seller_bps=ruling.seller_bps or 0,
        seller_units=ruling.seller_units,
        bond_to="client" if ruling.bond_to == Party.CLIENT else "seller",
        deposit=ruling.deposit,
        redo=ruling.redo,
        appeal_deposit=ruling.appeal_deposit,
    )


def may_appeal(dispute: Dispute, ruling: Ruling, role: str) -> bool:
    """Say whether a side has something to appeal: another share than it asked for, a lost bond or a lost deposit."""
    asked_bps = asked_by(dispute, role)
    lost_bond = role == Party.SELLER and ruling.bond_to == Party.CLIENT and dispute.bond_units > 0
    lost_deposit = role == dispute.opened_by and ruling.deposit != Deposit.BACK and dispute.deposit_due_units > 0
    return ruling.seller_bps != asked_bps or lost_bond or lost_deposit


def asked_by(dispute: Dispute, role: str) -> int:
    """Say what a side asked for, in basis points for the seller; one that was silent asked for everything."""
    asked = dispute.requested_by_client_bps if role == Party.CLIENT else dispute.requested_by_seller_bps
    silent = 0 if role == Party.CLIENT else 10_000
    return silent if asked is None else asked


def by_default(dispute: Dispute, job: Job, *, at: datetime) -> Default:
    """Decide from what the system knows, at a moment (`at`), when no person has decided."""
    if dispute.checks_passed_at_opening:
        return Default(
            decision=Decision(seller_bps=10_000, bond_to="seller"),
            reason_codes=(Reason.OTHER,),
            reasons="No moderator ruled in time. The work was delivered and its automatic checks passed, so the price"
            " goes to the seller. Bond and deposit go back to whoever paid them.",
        )
    nothing_came = dispute.deliveries_at_opening == 0
    if nothing_came and dispute.opened_by == Party.CLIENT and dispute.opened_before_deliver_by:
        return Default(
            decision=Decision(
                seller_bps=job.client_abort_fee_units * 10_000 // job.price_units,
                seller_units=job.client_abort_fee_units,
                bond_to="seller",
            ),
            reason_codes=(Reason.NOT_DELIVERED,),
            reasons="No moderator ruled in time. The client opened the case before the time of delivery was over and"
            " nothing had been delivered, so the job ends as if the client had aborted it: the agreed abort fee goes to"
            " the seller, the rest to the client. Bond and deposit go back to whoever paid them.",
        )
    due_by = delivery_due_by(job)
    if nothing_came and due_by is not None and due_by <= at:
        return Default(
            decision=Decision(seller_bps=0, bond_to="seller"),
            reason_codes=(Reason.NOT_DELIVERED,),
            reasons="No moderator ruled in time. Nothing was ever delivered and the time of delivery is over, so the"
            " price goes back to the client. Bond and deposit go back to whoever paid them.",
        )
    return Default(
        decision=Decision(seller_bps=5_000, bond_to="seller"),
        reason_codes=(Reason.OTHER,),
        reasons="No moderator ruled in time and the facts that the system knows do not decide the case, so the price is"
        " divided in halves. Bond and deposit go back to whoever paid them.",
    )


def delivery_due_by(job: Job) -> datetime | None:
    """Say until when the first delivery may come: a redo of what never came gives a time of its own."""
    return job.deliver_by if job.deliveries_count else job.revise_by or job.deliver_by


def closing(dispute: Dispute, job: Job, decision: Decision) -> holds.Closing:
    """Plan the transfer that carries a division out."""
    seller_units = seller_units_of(job, decision)
    return effects.closing(
        job, seller_units=seller_units, bond_to=decision.bond_to, extra=deposit_moves(dispute, job, decision)
    )


def deposit_moves(dispute: Dispute, job: Job, decision: Decision) -> tuple[Move, ...]:
    """List the moves of the deposits under a decision: all that a redo moves."""
    return tuple(move for given in deposits_given(dispute, job, decision) for move in given.moves)


def deposits_given(dispute: Dispute, job: Job, decision: Decision) -> list[deposits.Given]:
    """Say what becomes of the deposits under a decision: the opening's, then the appeal's where there is one."""
    appeal = appeal_of(dispute)
    if appeal is None:
        return _given(dispute, job, decision)
    went = fate_of_appeal_deposit(dispute, job, decision, appeal)
    return _given(dispute, job, decision, appeal=appeal, appeal_went=went)


def appeal_of(dispute: Dispute) -> Appeal | None:
    """Find the appeal of a case; asks nothing of the database where none was filed."""
    return getattr(dispute, "appeal", None) if dispute.hear_appeal_by else None


def fate_of_appeal_deposit(dispute: Dispute, job: Job, decision: Decision, appeal: Appeal) -> str:
    """Give the appeal's deposit back if the appellant fares better than under the ruling that was appealed."""
    if decision.appeal_deposit is not None:
        return decision.appeal_deposit
    before = _net_units(dispute, job, of_ruling(appeal.against), appeal.by)
    return Deposit.BACK if _net_units(dispute, job, decision, appeal.by) > before else Deposit.OTHER_SIDE


def seller_units_of(job: Job, decision: Decision) -> int:
    if decision.seller_units is not None:
        return decision.seller_units
    return holds.split(job.price_units, decision.seller_bps)


def entries(dispute: Dispute, job: Job, decision: Decision) -> list[effects.Effect]:
    """List every entry that carrying the decision out will post, accounts named for people."""
    if decision.redo:
        return effects.named(job, list(deposit_moves(dispute, job, decision)))
    return effects.named(job, holds.closing_moves(closing(dispute, job, decision)))


def in_words(dispute: Dispute, job: Job, decision: Decision) -> str:
    """Say what a decision does: who gets how much."""
    parts = _redo_in_words(job) if decision.redo else _split_in_words(job, decision)
    for name, given in zip(("deposit", "appeal's deposit"), deposits_given(dispute, job, decision), strict=False):
        if given.units:
            parts.append(f"the {name} of {units_to_text(given.units)} USDC {_whither(given)}")
    return ", ".join(parts)


def lost_by(dispute: Dispute, *, seller_bps: int) -> str | None:
    """Name the side that lost: a result nearer to the other side's request than to its own; None if neither is."""
    client_wanted, seller_wanted = asked_by(dispute, Party.CLIENT), asked_by(dispute, Party.SELLER)
    from_client, from_seller = abs(seller_bps - client_wanted), abs(seller_bps - seller_wanted)
    if from_client == from_seller:
        return None
    return Party.CLIENT if from_client > from_seller else Party.SELLER


def _net_units(dispute: Dispute, job: Job, decision: Decision, role: str) -> int:
    """Reckon what a side gets of price, bond and the opening's deposit; a redo counts as a division in halves."""
    if decision.redo:
        decision = replace(decision, redo=False, seller_bps=5_000, seller_units=None, bond_to="seller")
    closed = effects.closing(
        job,
        seller_units=seller_units_of(job, decision),
        bond_to=decision.bond_to,
        extra=tuple(_given(dispute, job, decision)[0].moves),
    )
    account = ("available", str(dispute.client_id if role == Party.CLIENT else dispute.seller_id))
    return sum(move.amount_units for move in holds.closing_moves(closed) if move[:2] == account)


def _given(dispute: Dispute, job: Job, decision: Decision, **appeal: Any) -> list[deposits.Given]:
    seller_units = 0 if decision.redo else seller_units_of(job, decision)
    return deposits.given(
        dispute,
        went=decision.deposit,
        client_share_units=0 if decision.redo else job.price_units - seller_units,
        seller_share_units=seller_units - holds.fee(seller_units, job.fee_bps),
        **appeal,
    )


def _redo_in_words(job: Job) -> list[str]:
    held = "price and bond stay" if job.bond_units else "the price stays"
    span = timedelta(seconds=job.revision_seconds)
    could_be_later = job.deliver_by and job.frozen_at and job.deliver_by > job.frozen_at + span
    or_later = " or by its time of delivery, whichever is later" if could_be_later else ""
    return [f"the seller does the work again within {_span(job.revision_seconds)}{or_later}, {held} held meanwhile"]


def _split_in_words(job: Job, decision: Decision) -> list[str]:
    seller_units = seller_units_of(job, decision)
    fee_units = holds.fee(seller_units, job.fee_bps)
    parts = [
        f"{units_to_text(seller_units - fee_units)} USDC to the seller",
        f"{units_to_text(job.price_units - seller_units)} USDC to the client",
    ]
    if fee_units:
        parts.append(f"{units_to_text(fee_units)} USDC to the platform as its fee")
    if job.bond_units:
        parts.append(f"the bond of {units_to_text(job.bond_units)} USDC to the {decision.bond_to}")
    return parts


def _whither(given: deposits.Given) -> str:
    match given.went:
        case Deposit.BACK:
            return f"back to the {given.payer}"
        case Deposit.OTHER_SIDE:
            return f"to the {Party.SELLER if given.payer == Party.CLIENT else Party.CLIENT}"
    return "to the platform"


def _span(seconds: int) -> str:
    """Write a span of time: 86,400 → "24 hours"."""
    hours, rest = divmod(seconds, 3_600)
    return f"{hours} hours" if hours and not rest else f"{seconds} seconds"
