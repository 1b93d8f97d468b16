"""
How a case is decided, as a plan of money: the ruling posts it, the preview shows it, the words are written from it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from accounts.edge.fields import units_to_text
from disputes import deposits
from disputes.models import Deposit, Dispute, Party, Reason, Ruling
from escrow import holds
from marketplace import effects
from marketplace.models import Job

Side = Literal["client", "seller"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A split of the price before the fee, and what becomes of bond and deposit."""

    seller_bps: int
    bond_to: Side
    deposit: str = Deposit.BACK
    # Where the seller's share is no round number of basis points.
    seller_units: int | None = None
    # The work is done again instead of being paid for; share and bond then wait.
    redo: bool = False


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
    if nothing_came and job.deliver_by is not None and job.deliver_by <= at:
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


def closing(dispute: Dispute, job: Job, decision: Decision) -> holds.Closing:
    """Plan the transfer that carries a decision out."""
    seller_units = seller_units_of(job, decision)
    return effects.closing(
        job, seller_units=seller_units, bond_to=decision.bond_to, extra=deposit_moves(dispute, job, decision)
    )


def deposit_moves(dispute: Dispute, job: Job, decision: Decision) -> tuple:
    """Say what becomes of the deposit under a decision."""
    seller_units = seller_units_of(job, decision)
    return deposits.closing_moves(
        dispute,
        went=decision.deposit,
        client_share_units=job.price_units - seller_units,
        seller_share_units=seller_units - holds.fee(seller_units, job.fee_bps),
    )


def seller_units_of(job: Job, decision: Decision) -> int:
    if decision.seller_units is not None:
        return decision.seller_units
    return holds.split(job.price_units, decision.seller_bps)


def entries(dispute: Dispute, job: Job, decision: Decision) -> list[effects.Effect]:
    """List every entry that carrying the decision out will post, accounts named for people."""
    return effects.named(job, holds.closing_moves(closing(dispute, job, decision)))


def in_words(dispute: Dispute, job: Job, decision: Decision) -> str:
    """Say what a decision does: who gets how much."""
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
    deposit_units = sum(move.amount_units for move in deposit_moves(dispute, job, decision) if move.amount_units > 0)
    if deposit_units:
        whither = {
            Deposit.BACK: f"back to the {dispute.opened_by}",
            Deposit.OTHER_SIDE: f"to the {dispute.respondent_role}",
            Deposit.PENALTIES: "to the platform",
        }[Deposit(decision.deposit)]
        parts.append(f"the deposit of {units_to_text(deposit_units)} USDC {whither}")
    return ", ".join(parts)


def lost_by(dispute: Dispute, *, seller_bps: int) -> str | None:
    """Name the side that lost: a result nearer to the other side's request than to its own; None if neither is."""
    client_wanted, seller_wanted = asked_by(dispute, Party.CLIENT), asked_by(dispute, Party.SELLER)
    from_client, from_seller = abs(seller_bps - client_wanted), abs(seller_bps - seller_wanted)
    if from_client == from_seller:
        return None
    return Party.CLIENT if from_client > from_seller else Party.SELLER
