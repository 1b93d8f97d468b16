"""What moderators and time do in a case: rule, let a ruling become final, decide where nobody did."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.errors import DomainError, FieldError, Invalid
from accounts.models import User
from disputes import assignment, cases, decisions, execution, lifecycle, rulings
from disputes.decisions import Decision
from disputes.lifecycle import Action, Who
from disputes.models import Deposit, Dispute, Party, Reason, Ruling
from disputes.models.rulings import REASON_CODES

MIN_REASONS = 200
MAX_REASONS = 20_000
Standing = Ruling.Standing


class CaseChanged(DomainError):
    """The case moved on since its page was read."""

    code = "case_changed"
    title = "The case has changed since you read it"


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
    Decide the case: it is `ruled`, or `awaiting_approval` where a second person must agree (`needs_second_person`).

    Money moves only when the ruling is final. `revision` is that of the case its author read. A case that nobody has
    becomes the moderator's.

    :raises lifecycle.TransitionNotAllowed: unless it is under review, before the hard stop, with no question open
    :raises CaseChanged: if the case moved on since
    :raises Invalid: for shares out of bounds, unknown codes, reasons of less than 200 characters, or a second redo
    :raises assignment.AssignedToAnother: if a colleague has it
    :raises conflicts.ConflictOfInterest: if the moderator has a stake in it
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    second = needs_second_person(dispute, decision, reason_codes)
    action = Action.PROPOSE_RULING if second else Action.RULE
    lifecycle.rule_for(dispute, action, Who.MODERATOR, at)
    require_revision(dispute, revision)
    assignment.require_fit(moderator, dispute)
    check(dispute, decision, reason_codes=reason_codes, reasons=reasons)
    if dispute.assigned_to_id is None:
        assignment.take_locked(dispute, moderator=moderator, at=at)
    lifecycle.advance(dispute, action, by=Who.MODERATOR, at=at, user=moderator, why=second or "", approver=None)
    ruling = rulings.record(
        dispute,
        decision,
        standing=Standing.PROPOSED if second else Standing.STANDING,
        at=at,
        author=moderator,
        reason_codes=reason_codes,
        reasons=reasons,
        private_notes=private_notes,
        revision=revision,
        needs_approval=second is not None,
    )
    if second:
        cases.show_clock(dispute)
    else:
        announce(dispute, ruling, at)
    return dispute


@transaction.atomic
def rule_by_default(dispute_id: UUID, *, at: datetime | None = None) -> Dispute:
    """
    Decide a case that nobody decided in time, by what the system knows; it can be appealed like any other.

    :raises lifecycle.TransitionNotAllowed: unless the time for a ruling, or for its approval, is over
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.RULE_BY_DEFAULT, Who.SYSTEM, at)
    ruling = _default(dispute, at)
    lifecycle.advance(dispute, Action.RULE_BY_DEFAULT, by=Who.SYSTEM, at=at)
    announce(dispute, ruling, at)
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
    ruling = rulings.in_force(dispute)
    return execution.carry_out(dispute, ruling, Action.FINALISE, at=at)


@transaction.atomic
def stop_hard(dispute_id: UUID, *, at: datetime | None = None) -> Dispute:
    """
    End a case that has reached its last day: by the ruling that stands, else by the default, without appeal.

    :raises lifecycle.TransitionNotAllowed: before that day, or if the case is closed
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.HARD_STOP, Who.SYSTEM, at)
    ruling = rulings.standing(dispute) or _default(dispute, at)
    return execution.carry_out(dispute, ruling, Action.HARD_STOP, at=at)


def announce(dispute: Dispute, ruling: Ruling, at: datetime) -> None:
    """Tell both sides of a ruling that stands from now on, and until when it can be appealed."""
    cases.show_clock(dispute, standing=ruling)
    cases.tell("dispute.ruled", dispute, at, **rulings.outcome_of(ruling))


def require_revision(dispute: Dispute, revision: int) -> None:
    """
    Let nobody decide a case that is not the one they read.

    :raises CaseChanged: if the case moved on since
    """
    if revision != dispute.revision:
        raise CaseChanged("Read the case again, then decide.", revision=dispute.revision)


def check(dispute: Dispute, decision: Decision, *, reason_codes: list[str], reasons: str) -> None:
    """
    Check what a ruling must name.

    :raises Invalid: with everything that is wrong
    """
    wrong = [*_wrong_with_money(dispute, decision)]
    if not reason_codes or set(reason_codes) - set(REASON_CODES):
        wrong.append(FieldError("/reason_codes", "invalid_choice", "At least one of the known reason codes."))
    wrong += wrong_with_reasons(reasons)
    if wrong:
        raise Invalid(" ".join(field.detail for field in wrong), errors=wrong)


def wrong_with_reasons(reasons: str) -> list[FieldError]:
    if len(reasons.strip()) < MIN_REASONS:
        return [FieldError("/reasons", "min_length", f"Public reasons have at least {MIN_REASONS} characters.")]
    if len(reasons) > MAX_REASONS:
        return [FieldError("/reasons", "max_length", f"Public reasons have at most {MAX_REASONS} characters.")]
    return []


def needs_second_person(
    dispute: Dispute, decision: Decision, reason_codes: list[str], *, replaces: Ruling | None = None
) -> str | None:
    """Say why a ruling, or one that replaces another on appeal, needs a colleague's approval, or None."""
    if dispute.price_units + dispute.bond_units >= dispute.approval_threshold_units:
        return "Price and bond reach the amount above which a second person must approve."
    if dispute.bond_units and decision.bond_to == Party.CLIENT:
        return "Taking a seller's bond needs a second person."
    if dispute.bond_units and replaces is not None and decision.bond_to != replaces.bond_to:
        return "Deciding otherwise about a seller's bond needs a second person."
    if decision.deposit == Deposit.PENALTIES:
        return "Calling a case frivolous needs a second person."
    if Reason.FRAUD in reason_codes:
        return "A finding of fraud needs a second person."
    if replaces is not None and replaces.deposit == Deposit.PENALTIES:
        return "Undoing the finding that a case was frivolous needs a second person."
    if replaces is not None and Reason.FRAUD in replaces.reason_codes:
        return "Undoing a finding of fraud needs a second person."
    return None


def _default(dispute: Dispute, at: datetime) -> Ruling:
    """Write the default ruling down: the one that was announced, however late the sweep is."""
    assert dispute.deadline_at is not None  # noqa: S101 (the case lives)
    default = decisions.by_default(dispute, dispute.job, at=dispute.deadline_at)
    rulings.drop_proposed(dispute)
    return rulings.record(
        dispute,
        default.decision,
        standing=Standing.STANDING,
        at=at,
        author=None,
        reason_codes=list(default.reason_codes),
        reasons=default.reasons,
        revision=dispute.revision,
    )


def _wrong_with_money(dispute: Dispute, decision: Decision) -> Iterator[FieldError]:
    if decision.redo:
        if not dispute.job.redos_left:
            yield FieldError("/redo", "invalid_choice", "The work was done again once already.")
        if decision.bond_to != Party.SELLER:
            yield FieldError("/bond", "invalid_choice", "While the work is done again the bond stays held.")
    elif not 0 <= decision.seller_bps <= 10_000:
        yield FieldError("/seller_bps", "out_of_range", "A share is 0 to 10,000 basis points.")
    if decision.bond_to not in Party.values:
        yield FieldError("/bond", "invalid_choice", "The bond goes to the client or to the seller.")
    if decision.deposit not in Deposit.values:
        yield FieldError("/deposit", "invalid_choice", "The deposit goes back, to the other side, or to us.")
