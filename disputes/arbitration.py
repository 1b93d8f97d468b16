"""What moderators and time do in a case: rule, let a ruling become final, decide where nobody did."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.errors import DomainError, FieldError, Invalid
from accounts.models import User
from disputes import assignment, cases, decisions, lifecycle
from disputes.decisions import Decision
from disputes.lifecycle import Action, Who
from disputes.models import Deposit, Dispute, Party, Ruling
from disputes.models.rulings import REASON_CODES
from marketplace import jobs
from marketplace import lifecycle as job_lifecycle

MIN_REASONS = 200
MAX_REASONS = 20_000


class CaseChanged(DomainError):
    """The case moved on since its page was read."""

    code = "case_changed"
    title = "The case has changed since you read it"


class SecondPersonNeeded(DomainError):
    """Until a second person can approve, nobody rules alone on what needs two."""

    status = 400
    code = "not_available"
    title = "A second person must approve this ruling"


@transaction.atomic
def rule(
    dispute_id: UUID,
    *,
    moderator: User,
    revision: int,
    decision: Decision,
    reason_codes: list[str],
    reasons: str,
    private_notes: str = "",
    at: datetime | None = None,
) -> Dispute:
    """
    Decide the case. Money moves only when the ruling is final.

    `revision` is that of the case its author read.

    :raises lifecycle.TransitionNotAllowed: unless it is under review, before the hard stop
    :raises CaseChanged: if the case moved on since
    :raises Invalid: for shares out of bounds, unknown codes, or reasons of less than 200 characters
    :raises assignment.AssignedToAnother: if a colleague has it
    :raises conflicts.ConflictOfInterest: if the moderator has a stake in it
    :raises SecondPersonNeeded: above the threshold, for a forfeited bond, and for a finding of fraud or frivolity
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.RULE, Who.MODERATOR, at)
    if revision != dispute.revision:
        raise CaseChanged("Read the case again, then rule.", revision=dispute.revision)
    assignment.require_fit(moderator, dispute)
    check(decision, reason_codes=reason_codes, reasons=reasons)
    if why := needs_second_person(dispute, decision, reason_codes):
        raise SecondPersonNeeded(why)
    lifecycle.advance(
        dispute,
        Action.RULE,
        by=Who.MODERATOR,
        at=at,
        user=moderator,
        assigned_to=moderator,
        assigned_at=dispute.assigned_at or at,
    )
    ruling = _record(
        dispute,
        decision,
        at=at,
        author=moderator,
        reason_codes=reason_codes,
        reasons=reasons,
        private_notes=private_notes,
        revision=revision,
    )
    cases.show_clock(dispute, standing=ruling)
    cases.tell("dispute.ruled", dispute, at, seller_bps=str(ruling.seller_bps))
    return dispute


@transaction.atomic
def finalise(dispute_id: UUID, *, at: datetime | None = None) -> Dispute:
    """
    Carry out the ruling that nobody appealed.

    :raises lifecycle.TransitionNotAllowed: unless it is ruled and `appeal_by` is over
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.FINALISE, Who.SYSTEM, at)
    ruling = standing_ruling(dispute)
    assert ruling is not None  # noqa: S101 (a ruled case has one)
    return _carry_out(dispute, ruling, Action.FINALISE, at)


@transaction.atomic
def stop_hard(dispute_id: UUID, *, at: datetime | None = None) -> Dispute:
    """
    End a case that has reached its last day: by the ruling that stands, else by the default, without appeal.

    :raises lifecycle.TransitionNotAllowed: before that day, or if the case is closed
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.HARD_STOP, Who.SYSTEM, at)
    ruling = standing_ruling(dispute) or _rule_by_default(dispute, at)
    return _carry_out(dispute, ruling, Action.HARD_STOP, at)


def check(decision: Decision, *, reason_codes: list[str], reasons: str) -> None:
    """
    Check what a ruling must name.

    :raises Invalid: with everything that is wrong
    """
    wrong = []
    if not 0 <= decision.seller_bps <= 10_000:
        wrong.append(FieldError("/seller_bps", "out_of_range", "A share is 0 to 10,000 basis points."))
    if decision.bond_to not in Party.values:
        wrong.append(FieldError("/bond", "invalid_choice", "The bond goes to the client or to the seller."))
    if decision.deposit not in Deposit.values:
        wrong.append(FieldError("/deposit", "invalid_choice", "The deposit goes back, to the other side, or to us."))
    if not reason_codes or set(reason_codes) - set(REASON_CODES):
        wrong.append(FieldError("/reason_codes", "invalid_choice", "At least one of the known reason codes."))
    if len(reasons.strip()) < MIN_REASONS:
        wrong.append(FieldError("/reasons", "min_length", f"Public reasons have at least {MIN_REASONS} characters."))
    if len(reasons) > MAX_REASONS:
        wrong.append(FieldError("/reasons", "max_length", f"Public reasons have at most {MAX_REASONS} characters."))
    if wrong:
        raise Invalid(" ".join(field.detail for field in wrong), errors=wrong)


def needs_second_person(dispute: Dispute, decision: Decision, reason_codes: list[str]) -> str | None:
    """Say why a ruling needs a colleague's approval, or None."""
    if dispute.price_units + dispute.bond_units >= dispute.approval_threshold_units:
        return "Price and bond reach the amount above which a second person must approve."
    if dispute.bond_units and decision.bond_to == Party.CLIENT:
        return "Taking a seller's bond needs a second person."
    if decision.deposit == Deposit.PENALTIES:
        return "Calling a case frivolous needs a second person."
    if "fraud" in reason_codes:
        return "A finding of fraud needs a second person."
    return None


def standing_ruling(dispute: Dispute) -> Ruling | None:
    return Ruling.objects.filter(dispute=dispute, standing=Ruling.Standing.STANDING).first()


def _rule_by_default(dispute: Dispute, at: datetime) -> Ruling:
    Ruling.objects.filter(dispute=dispute, standing=Ruling.Standing.PROPOSED).update(standing=Ruling.Standing.REPLACED)
    default = decisions.by_default(dispute, dispute.job, at=at)
    return _record(
        dispute,
        default.decision,
        at=at,
        author=None,
        reason_codes=list(default.reason_codes),
        reasons=default.reasons,
        revision=dispute.revision,
    )


def _record(
    dispute: Dispute,
    decision: Decision,
    *,
    at: datetime,
    author: User | None,
    reason_codes: list[str],
    reasons: str,
    revision: int,
    private_notes: str = "",
) -> Ruling:
    return Ruling.objects.create(
        dispute=dispute,
        number=Ruling.objects.filter(dispute=dispute).count() + 1,
        standing=Ruling.Standing.STANDING,
        author=author,
        is_default=author is None,
        seller_bps=decision.seller_bps,
        seller_units=decision.seller_units,
        bond_to=decision.bond_to,
        deposit=decision.deposit,
        reason_codes=sorted(set(reason_codes), key=REASON_CODES.index),
        reasons=reasons,
        private_notes=private_notes,
        revision=revision,
        ruled_at=at,
    )


def _carry_out(dispute: Dispute, ruling: Ruling, action: Action, at: datetime) -> Dispute:
    """Close the case and the job: everything that was held leaves in one transfer, exactly the one that was shown."""
    decision = decisions.of_ruling(ruling)
    lost_by = None if ruling.is_default else decisions.lost_by(dispute, seller_bps=decision.seller_bps)
    lifecycle.advance(dispute, action, by=Who.SYSTEM, at=at, lost_by=lost_by, deposit_went=ruling.deposit)
    job = jobs.resolve(
        dispute.job_id,
        plan=lambda job: decisions.closing(dispute, job, decision),
        by=_role_behind(ruling),
        note=f"seller_bps {decision.seller_bps}",
        at=at,
    )
    cases.tell("dispute.final", dispute, at, seller_bps=str(ruling.seller_bps), job_state=str(job.state))
    return dispute


def _role_behind(ruling: Ruling) -> job_lifecycle.Role:
    return job_lifecycle.Role.SYSTEM if ruling.is_default else job_lifecycle.Role.MODERATOR
