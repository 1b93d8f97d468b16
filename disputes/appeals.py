"""The one challenge to a ruling, and the senior moderator who decides it."""

from dataclasses import replace as with_changes
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import spending
from accounts.errors import Invalid
from accounts.models import Agent, Token, User
from disputes import arbitration, assignment, cases, decisions, deposits, execution, lifecycle, rulings
from disputes.decisions import Decision
from disputes.lifecycle import Action, Who
from disputes.models import Appeal, Dispute, Ruling
from marketplace import locking

GROUNDS_CHARS = (100, 5_000)
Outcome, Standing = Appeal.Outcome, Ruling.Standing


@transaction.atomic
def file(
    dispute_id: UUID, *, appellant: Agent, grounds: str, token: Token | None = None, at: datetime | None = None
) -> Dispute:
    """
    Challenge the ruling: a senior moderator who had no part in it decides. `grounds` have 100 to 5,000 characters.

    A deposit is held by the same rule as at the opening, as far as the balance reaches.

    :raises lifecycle.TransitionNotAllowed: after `appeal_by`, or if the ruling took nothing from this side
    :raises NotFound: for a stranger
    :raises spending.SpendingCapExceeded: if the deposit passes a cap of the token
    """
    dispute = lifecycle.lock(dispute_id)
    who, at = lifecycle.who_of(appellant, dispute), lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.APPEAL, who, at)
    _require_grounds(grounds)
    ruling = rulings.in_force(dispute)
    locking.lock(dispute.job_id)  # before the record and the account that the deposit is reckoned from
    lifecycle.advance(dispute, Action.APPEAL, by=who, at=at, assigned_to=None, assigned_at=None, approver=None)
    appeal = _new_appeal(dispute, ruling, appellant, grounds, at)
    spending.spend(token, units=deposits.reach_units(appellant.id, due_units=appeal.deposit_due_units), at=at)
    # The money before the row, which tells how much of the deposit is held; both or neither are committed.
    deposits.take(appeal, payer_id=appellant.id, at=at)
    appeal.save(force_insert=True)
    cases.show_clock(dispute, standing=ruling)
    cases.tell("dispute.appealed", dispute, at, by=str(appeal.by))
    return dispute


@transaction.atomic
def uphold(
    dispute_id: UUID,
    *,
    senior: User,
    revision: int,
    reasons: str,
    private_notes: str = "",
    at: datetime | None = None,
) -> Dispute:
    """
    Let the ruling stand and carry it out; the appeal's deposit goes to the other side.

    `revision` is that of the case the senior read. A case that nobody has becomes theirs.

    :raises lifecycle.TransitionNotAllowed: unless it is appealed, before the hard stop, with nothing proposed
    :raises arbitration.CaseChanged: if the case moved on since
    :raises Invalid: for reasons of less than 200 characters
    :raises assignment.AssignedToAnother: if a colleague has it
    :raises conflicts.ConflictOfInterest: if the senior has a stake in it, or had a part in the ruling
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    _open(dispute, Action.UPHOLD, senior, revision, at)
    if wrong := arbitration.wrong_with_reasons(reasons):
        raise Invalid(wrong[0].detail, errors=wrong)
    _take_if_free(dispute, senior, at)
    ruling = rulings.in_force(dispute)
    return execution.carry_out(
        dispute,
        ruling,
        Action.UPHOLD,
        at=at,
        by=Who.SENIOR,
        user=senior,
        outcome=Outcome.UPHELD,
        decided_by=senior,
        reasons=reasons,
        private_notes=private_notes,
    )


@transaction.atomic
def replace(
    dispute_id: UUID,
    *,
    senior: User,
    revision: int,
    decision: Decision,
    reason_codes: list[str],
    reasons: str,
    private_notes: str = "",
    at: datetime | None = None,
) -> Dispute:
    """
    Decide otherwise: at once and for good, or, where another senior must agree, once they have.

    The appeal's deposit comes back if the appellant fares better than before, else it goes to the other side.

    :raises: as `uphold`; :raises Invalid: as `arbitration.rule`
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    first = rulings.standing(dispute)
    second = arbitration.needs_second_person(dispute, decision, reason_codes, replaces=first)
    action = Action.PROPOSE_REPLACEMENT if second else Action.REPLACE
    _open(dispute, action, senior, revision, at)
    arbitration.check(dispute, decision, reason_codes=reason_codes, reasons=reasons)
    _take_if_free(dispute, senior, at)
    decision = _with_deposit(dispute, decision)
    if second:
        lifecycle.advance(dispute, action, by=Who.SENIOR, at=at, user=senior, why=second, approver=None)
    else:
        rulings.replace_standing(dispute)
    ruling = rulings.record(
        dispute,
        decision,
        standing=Standing.PROPOSED if second else Standing.STANDING,
        at=at,
        author=senior,
        reason_codes=reason_codes,
        reasons=reasons,
        private_notes=private_notes,
        revision=revision,
        needs_approval=second is not None,
        on_appeal=True,
    )
    if second:
        cases.show_clock(dispute, standing=first)
        return dispute
    return execution.carry_out(
        dispute,
        ruling,
        action,
        at=at,
        by=Who.SENIOR,
        user=senior,
        outcome=Outcome.REPLACED,
        decided_by=senior,
    )


@transaction.atomic
def lapse(dispute_id: UUID, *, at: datetime | None = None) -> Dispute:
    """
    Carry out the first ruling because nobody decided the appeal in time; its deposit comes back.

    :raises lifecycle.TransitionNotAllowed: unless that time is over
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.APPEAL_LAPSES, Who.SYSTEM, at)
    ruling = rulings.in_force(dispute)
    return execution.carry_out(dispute, ruling, Action.APPEAL_LAPSES, at=at, outcome=Outcome.LAPSED)


def _open(dispute: Dispute, action: Action, senior: User, revision: int, at: datetime) -> None:
    lifecycle.rule_for(dispute, action, Who.SENIOR, at)
    arbitration.require_revision(dispute, revision)
    assignment.require_fit(senior, dispute, senior=True)


def _take_if_free(dispute: Dispute, senior: User, at: datetime) -> None:
    if dispute.assigned_to_id is None:
        assignment.take_locked(dispute, moderator=senior, at=at)


def _with_deposit(dispute: Dispute, decision: Decision) -> Decision:
    """Write into the decision what becomes of the appeal's deposit."""
    appeal = decisions.appeal_of(dispute)
    assert appeal is not None  # noqa: S101 (the case is appealed)
    went = decisions.fate_of_appeal_deposit(dispute, dispute.job, decision, appeal)
    return with_changes(decision, appeal_deposit=went)


def _new_appeal(dispute: Dispute, ruling: Ruling, appellant: Agent, grounds: str, at: datetime) -> Appeal:
    assert dispute.hear_appeal_by is not None  # noqa: S101 (the case is appealed)
    return Appeal(
        dispute=dispute,
        against=ruling,
        by=lifecycle.party_of(appellant, dispute),
        appellant=appellant,
        grounds=grounds,
        deposit_due_units=deposits.due_units(appellant, price_units=dispute.price_units, at=at, appealing=dispute),
        deposit_held_units=0,
        filed_at=at,
        decide_by=dispute.hear_appeal_by,
    )


def _require_grounds(grounds: str) -> None:
    least, most = GROUNDS_CHARS
    if not least <= len(grounds.strip()) <= len(grounds) <= most:
        raise Invalid.at("/grounds", "length", f"The grounds have {least} to {most:,} characters.")
