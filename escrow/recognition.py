"""
Recognition: payouts that a database restored from a backup has forgotten, found on the chain and posted.

Only what a finalized block holds is recognised, each nonce once. What a withdrawal still waits for is that withdrawal;
what none asked for is the agent's in whose address book the receiver stands. Where that is nobody, or several, a
treasurer has to say, and until then nothing is authorized.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts import alerts, audit, clock, ids
from accounts.errors import Conflict, Invalid, NotAllowed, NotFound
from accounts.models import Agent, User
from escrow import conflicts, guard, heads, ledger, outflows, payouts, relays, withdrawal_moves, withdrawals
from escrow import withdrawal_table as table
from escrow.chain import network, rpc, usdc
from escrow.ledger import Move
from escrow.models import AddressBookEntry, Authorization, Outflow, ScanCursor, Withdrawal
from escrow.withdrawal_table import Action

log = logging.getLogger(__name__)
State, Explanation = Withdrawal.State, Outflow.Explanation


class Unattributed(Conflict):
    """No address book says whose payout it was, or several do."""


class NotYet(Conflict):
    """It is not final, or not looked at, or going to be recognised by itself: not a matter for people yet."""


def recognise_due() -> int:
    """
    Recognise what the chain shows and no row stands for, as far as it is final; answers how many payouts.

    Once every payout is known, so are the relayers' nonces; the alarms end. Payouts stay paused until a person resumes.
    """
    here, node = network.current(), network.node()
    tips = heads.trusted(node, here)
    unknown = guard.check(node, here, tips)
    if unknown.is_nothing:
        return 0
    done = sum(_recognise(node, here, used, tips.finalized) for used in unknown.authorizations)
    if done == len(unknown.authorizations):
        for relayer in unknown.relayers:
            relays.catch_up(relayer.pk, count=node.transaction_count(relayer.address, block=tips.finalized.number))
        guard.check(node, here, tips)
    return done


def recognise(outflow_id: UUID, *, nonce: bytes, at: datetime | None = None) -> Outflow:
    """
    Say what a finalized payout of a forgotten past was, and post it; said already, nothing changes.

    What the agent has not got any more goes to `shortfall`.

    :raises Unattributed: if that is for a treasurer to say
    :raises NotYet: if there is a row for it meanwhile: it is settled like any other
    """
    return _debiting(_recognise_once, outflow_id, nonce=nonce, at=at or clock.now())


def attribute(outflow_id: UUID, *, agent_id: UUID, by: User, reason: str, at: datetime | None = None) -> Outflow:
    """
    Have a treasurer say whose payout it was: that of an agent in whose address book the receiver stands or stood.

    :raises NotAllowed: if the person may not, or owns an agent it may have been paid to
    :raises Invalid: without a reason, or for an agent without that address
    :raises NotYet: if it is not a matter for people; :raises Conflict: if it is explained
    """
    return _debiting(_attribute, outflow_id, agent_id=agent_id, by=by, reason=reason, at=at or clock.now())


@transaction.atomic
def write_off(outflow_id: UUID, *, by: User, reason: str, at: datetime | None = None) -> Outflow:
    """
    Have a treasurer post as a loss what left and was nobody's payout.

    :raises NotAllowed: if the person may not, or owns an agent it may have been paid to
    :raises Invalid: without a reason
    :raises NotYet: if it is not a matter for people; :raises Conflict: if it is explained
    """
    outflow = _for_people(outflow_id, by=by, reason=reason)
    conflicts.require_none(by, agents_of(outflow))
    at, before = at or clock.now(), audit.state_of(outflow)
    _explain(outflow, Explanation.WRITTEN_OFF, at=at, by=by, reason=reason)
    moves = [
        Move("shortfall", ledger.PLATFORM, -outflow.amount_units),
        Move("custody", f"chain:{outflow.chain_id}", outflow.amount_units),
    ]
    ledger.post(_reference(outflow), kind="outflow_write_off", moves=moves, actor=f"user:{by.pk}", memo=reason, at=at)
    alerts.clear("unexplained_outflow", str(outflow.pk), at=at)
    _audit("outflow.written_off", outflow, by=by, before=before, reason=reason, at=at)
    return outflow


def agents_of(outflow: Outflow) -> list[Agent]:
    """Whose payout it may have been: the agents that have, or had, the receiver in their address book."""
    return conflicts.paid_at(outflow.receiver)


def _recognise(node: rpc.Node, here: network.Network, used: usdc.AuthorizationLog, finalized: rpc.Block) -> bool:
    """False if it cannot be recognised now."""
    if used.block_number > finalized.number:
        return False
    outflow = _outflow(node, here, used)
    if outflow is None:
        return False
    try:
        recognise(outflow.pk, nonce=used.nonce)
    except (Unattributed, NotYet, table.TransitionNotAllowed) as refusal:
        log.warning("payout_not_recognised outflow=%s: %s", outflow.pk, refusal)
        return False
    return True


def _outflow(node: rpc.Node, here: network.Network, used: usdc.AuthorizationLog) -> Outflow | None:
    """The row of the transfer that this nonce moved, read again under its block's hash; None if it does not stand."""
    block, receipt = node.block(used.block_number), node.receipt(used.tx_hash)
    if block is None or receipt is None or not block.hash == used.block_hash == rpc.raw(receipt["blockHash"]):
        return None
    moved = usdc.authorized_transfers(receipt, here.usdc).values()
    found = [transfer for transfer, by in moved if (by.authorizer, by.nonce) == (used.authorizer, used.nonce)]
    if not found:
        log.error("nonce_without_transfer nonce=%s tx=%s", rpc.text(used.nonce), rpc.text(used.tx_hash))
        return None
    with transaction.atomic():
        outflows.write(here, found)
        rows = Outflow.objects.filter(chain_id=here.chain_id, tx_hash=used.tx_hash, log_index=found[0].log_index)
        rows.filter(orphaned_at=None, explanation="").update(nonce=used.nonce)
        return rows.filter(block_hash=used.block_hash, orphaned_at=None).first()


def _debiting(verb: Any, outflow_id: UUID, **what: Any) -> Outflow:
    """Do it, with as much of it in `shortfall` as the agent has not got."""
    short_units = 0
    while True:
        try:
            return verb(outflow_id, short_units=short_units, **what)
        except ledger.InsufficientFunds as refusal:
            if refusal.account[0] != "available":
                raise
            short_units += refusal.short_by_units


@transaction.atomic
def _recognise_once(outflow_id: UUID, *, nonce: bytes, short_units: int, at: datetime) -> Outflow:
    outflow = _locked(outflow_id)
    if outflow.explanation not in (Explanation.UNEXPLAINED, Explanation.INTERNAL):
        return outflow
    outflow.nonce = nonce
    asked = _asked_for(outflow)
    if asked and asked.state in table.RULES[Action.RECOGNISE].before:
        return _paid_for(outflow, asked, at=at)
    if asked and asked.state in Withdrawal.OPEN:
        raise NotYet("It is authorized by now.")
    if outflow.explanation == Explanation.INTERNAL:
        return _explain(outflow, Explanation.INTERNAL, at=at)
    if asked and asked.agent is None:
        raise Unattributed("Treasurers had asked for it, and it had ended: no agent's payout.")
    owners = [asked.agent] if asked and asked.agent else agents_of(outflow)
    if len(owners) != 1:
        raise Unattributed(f"{len(owners)} agents have its receiver in their address book.")
    return _debit(outflow, owners[0], short_units=short_units, actor="system", at=at)


@transaction.atomic
def _attribute(outflow_id: UUID, *, short_units: int, agent_id: UUID, by: User, reason: str, at: datetime) -> Outflow:
    outflow = _for_people(outflow_id, by=by, reason=reason)
    if outflow.nonce is None:
        raise Conflict("No authorization moved it: it was nobody's payout.")
    agents = agents_of(outflow)
    agent = next((one for one in agents if one.pk == agent_id), None)
    if agent is None:
        raise Invalid.at("/agent_id", "not_its_address", "This agent never had that address in its address book.")
    conflicts.require_none(by, agents)  # saying that it was another's clears their own
    before = audit.state_of(outflow)
    outflow.by, outflow.reason = by, reason[:500]
    _debit(outflow, agent, short_units=short_units, actor=f"user:{by.pk}", at=at)
    alerts.clear("unexplained_outflow", str(outflow.pk), at=at)
    _audit("outflow.attributed", outflow, by=by, before=before, reason=reason, at=at, agent_id=str(agent.pk))
    return outflow


def _paid_for(outflow: Outflow, asked: Withdrawal, *, at: datetime) -> Outflow:
    """It is what this withdrawal still waits for: paid."""
    asked = withdrawals.lock(asked.pk)
    proof = {"tx_hash": outflow.tx_hash, "block_number": outflow.block_number, "block_hash": outflow.block_hash}
    withdrawals.end(asked, Action.RECOGNISE, at=at, **proof)
    withdrawals.tell("withdrawal.settled", asked, at=at)
    if asked.owner == Withdrawal.Owner.INTERNAL:
        return _explain(outflow, Explanation.INTERNAL, at=at)
    _explain(outflow, Explanation.PAYOUT, withdrawal=asked, at=at)
    moves = withdrawal_moves.settled(asked)
    ledger.post(_reference(outflow), kind="withdrawal_recognise", moves=moves, at=at)
    return outflow


def _debit(outflow: Outflow, agent: Agent, *, short_units: int, actor: str, at: datetime) -> Outflow:
    """It was this agent's: a withdrawal of the past, paid from what the agent has now."""
    entry = AddressBookEntry.objects.filter(agent=agent, address=outflow.receiver).order_by("-created_at").first()
    recognised = Withdrawal.objects.create(
        id=ids.uuid7(),
        agent=agent,
        chain_id=outflow.chain_id,
        amount_units=outflow.amount_units,
        entry=entry,
        address=outflow.receiver,
        state=State.RECOGNISED,
        requested_at=at,
        closed_at=at,
        tx_hash=outflow.tx_hash,
        block_number=outflow.block_number,
        block_hash=outflow.block_hash,
        note=outflow.reason,
    )
    _explain(outflow, Explanation.PAYOUT, withdrawal=recognised, at=at)
    withdrawals.tell("withdrawal.settled", recognised, at=at)
    moves = [
        Move("available", str(agent.pk), short_units - outflow.amount_units),
        Move("shortfall", ledger.PLATFORM, -short_units),
        Move("custody", f"chain:{outflow.chain_id}", outflow.amount_units),
    ]
    ledger.post(
        _reference(outflow),
        kind="withdrawal_recognise",
        moves=[move for move in moves if move.amount_units],
        actor=actor,
        memo=outflow.reason,
        at=at,
    )
    return outflow


def _explain(outflow: Outflow, explanation: Outflow.Explanation, *, at: datetime, **what: Any) -> Outflow:
    outflow.explanation, outflow.explained_at = explanation, at
    for name, value in what.items():
        setattr(outflow, name, value)
    outflow.save(update_fields=["explanation", "explained_at", "nonce", "withdrawal", "by", "reason"])
    return outflow


def _audit(
    action: str, outflow: Outflow, *, by: User, before: dict[str, Any], reason: str, at: datetime, **facts: str
) -> None:
    audit.record(
        action, user=by, subject=f"outflow:{outflow.pk}", before=before, after=audit.state_of(outflow),
        facts={"amount_units": outflow.amount_units, **facts}, reason=reason, at=at,
    )  # fmt: skip


def _for_people(outflow_id: UUID, *, by: User, reason: str) -> Outflow:
    """
    The outflow under lock, if it is for a treasurer to say what it was.

    :raises NotAllowed, Invalid, Conflict, NotYet: if not
    """
    if not by.has_perm("escrow.approve_withdrawal"):
        raise NotAllowed("Only treasurers say what left the treasury.")
    if not reason.strip():
        raise Invalid.at("/reason", "required", "Say why.")
    outflow = _locked(outflow_id)
    if outflow.explanation or outflow.orphaned_at:
        raise Conflict("It is explained already, or its block is gone.")
    if not ScanCursor.objects.filter(chain_id=outflow.chain_id, finalized_number__gte=outflow.block_number).exists():
        raise NotYet("Its block is not final yet.")
    if not alerts.is_sounding("unexplained_outflow", str(outflow.pk)):
        raise NotYet("It has not been compared with our payouts yet.")
    asked = _asked_for(outflow)
    if asked and asked.state in Withdrawal.OPEN:
        raise NotYet("It is the payout of a withdrawal, and recognised by itself.")
    return outflow


def _locked(outflow_id: UUID) -> Outflow:
    found = Outflow.objects.select_for_update(no_key=True, of=("self",)).filter(pk=outflow_id).first()
    if found is None:
        raise NotFound
    return found


def _asked_for(outflow: Outflow) -> Withdrawal | None:
    """The withdrawal that the nonce names, whatever became of it; none if this database never knew it."""
    if outflow.nonce is None:
        return None
    signed = Authorization.objects.filter(sender=outflow.sender, nonce=outflow.nonce).select_related(
        "withdrawal__agent"
    )
    if row := signed.first():
        return row.withdrawal
    same = Withdrawal.objects.select_related("agent").filter(
        chain_id=outflow.chain_id, address=outflow.receiver, amount_units=outflow.amount_units, authorization=None
    )
    return next((one for one in same.iterator() if payouts.nonce_of(one) == outflow.nonce), None)


def _reference(outflow: Outflow) -> str:
    """One log, one posting, whoever says what it was."""
    return f"recognised:{outflow.chain_id}:{outflow.tx_hash.hex()}:{outflow.log_index}"
