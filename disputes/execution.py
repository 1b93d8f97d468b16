"""How a ruling becomes money: the one transaction in which a case ends by one."""

from dataclasses import replace
from datetime import datetime

from accounts.models import User
from disputes import cases, decisions, lifecycle, rulings
from disputes.decisions import Decision
from disputes.lifecycle import Action, Who
from disputes.models import Appeal, Deposit, Dispute, Ruling
from marketplace import jobs
from marketplace import lifecycle as job_lifecycle
from marketplace.models import Job

Outcome = Appeal.Outcome


def carry_out(
    dispute: Dispute,
    ruling: Ruling,
    action: Action,
    *,
    at: datetime,
    by: Who = Who.SYSTEM,
    user: User | None = None,
    why: str = "",
    outcome: str = Outcome.LAPSED,
    **said_on_appeal: object,
) -> Dispute:
    """
    Close a locked case by a ruling, and its job with it, or let the work be done again.

    Everything that was held leaves in one transfer, exactly the one that was shown. `outcome` is the appeal's, where
    there is one; an appeal that nobody decided costs its appellant nothing.

    :raises lifecycle.TransitionNotAllowed: unless the table of cases allows it, and the job is disputed
    :raises holds.NotAsAgreed: if the job holds anything else than its price and its bond
    """
    decision = decisions.of_ruling(ruling)
    appeal = decisions.appeal_of(dispute)
    if appeal is not None:
        went = _fate_of_deposit(dispute, decision, appeal, outcome)
        decision = replace(decision, appeal_deposit=went)
        _close(appeal, outcome=outcome, deposit_went=went, decided_at=at, **said_on_appeal)
    lifecycle.advance(
        dispute,
        action,
        by=by,
        at=at,
        user=user,
        why=why,
        lost_by=_lost_by(dispute, ruling),
        deposit_went=ruling.deposit,
    )
    rulings.put_in_force(dispute, ruling)
    job = _execute(dispute, ruling, decision, at)
    told = rulings.outcome_of(ruling) | ({"appeal": str(outcome)} if appeal else {})
    cases.tell("dispute.final", dispute, at, job_state=str(job.state), **told)
    return dispute


def _fate_of_deposit(dispute: Dispute, decision: Decision, appeal: Appeal, outcome: str) -> str:
    if outcome == Outcome.LAPSED:
        return Deposit.BACK
    return decisions.fate_of_appeal_deposit(dispute, dispute.job, decision, appeal)


def _execute(dispute: Dispute, ruling: Ruling, decision: Decision, at: datetime) -> Job:
    by = job_lifecycle.Role.SYSTEM if ruling.is_default else job_lifecycle.Role.MODERATOR
    if decision.redo:
        extra = decisions.deposit_moves(dispute, dispute.job, decision)
        return jobs.redo(dispute.job_id, by=by, note="The work is done again.", extra=extra, at=at)
    return jobs.resolve(
        dispute.job_id,
        plan=lambda job: decisions.closing(dispute, job, decision),
        by=by,
        note=f"seller_bps {decision.seller_bps}",
        at=at,
    )


def _lost_by(dispute: Dispute, ruling: Ruling) -> str | None:
    """Name who lost: nobody by a default ruling, nor where the work is done again."""
    if ruling.is_default or ruling.seller_bps is None:
        return None
    return decisions.lost_by(dispute, seller_bps=ruling.seller_bps)


def _close(appeal: Appeal, **said: object) -> None:
    for name, value in said.items():
        setattr(appeal, name, value)
    appeal.save(update_fields=said)
