"""What treasurers read: alerts, states and reasons in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from escrow.models import Withdrawal

State = Withdrawal.State

ALERTS = {
    "chain_not_trusted": "The node contradicts itself",
    "chain_unreadable": "The chain cannot be read",
    "deep_reorg": "The chain lost blocks that were final",
    "second_opinion": "A second provider does not know a deposit",
    "custody_mismatch": "Ledger and chain do not agree",
    "relayer_gas_low": "A relayer is short of gas",
    "treasury_short": "The treasury cannot cover its payouts",
    "payout_overdue": "A payout takes too long",
    "unexplained_outflow": "USDC left that nothing explains",
    "unknown_authorization": "A payment was signed that the database does not know",
    "unknown_relayer_nonce": "A relayer sent what the database does not know",
    "relay_stuck_at_fee_cap": "A relay is stuck at the highest fee",
    "key_refused": "A key was refused",
    "shortfall": "More is owed than is held",
    "factory_treasury": "The factory's treasury is being changed",
    "sweep_failing": "A deposit address cannot be swept",
    "payout_would_revert": "The token would refuse a payout",
    "watch_stale": "The treasury watch has stopped",
    "task_late": "A periodic task does not run",
    "task_failing": "A periodic task keeps failing",
    "backlog_old": "What is due waits too long",
    "deadline_stuck": "A deadline cannot be enforced",
    "incident_open": "The clocks stand still",
    "incidents_too_long": "The chain comes and goes: its silence stops the clocks no more",
    "events_lag": "Agents are not told what happens",
    "events_unparted": "Nobody makes the months of events",
}

HELD_FOR = {
    "amount": "above the amount that goes by itself",
    "agent_limit": "above the agent's limit of a day",
    "platform_limit": "above the platform's limit of a day",
    "shortfall": "the agent has a deposit that was taken back",
    "platform": "income of the platform",
    "return": "a deposit that goes back",
    "internal": "a move between addresses of ours",
}

FLAGS = {
    "withdrawals": ("Withdrawals", "requests are refused, nothing new is signed; what is signed goes on"),
    "deposits": ("Deposits", "they are recorded, none is credited; reversals go on"),
    "new_jobs": ("New jobs", "no offer, funding, listing or hire; jobs under way go on"),
}

OWNERS = {"platform": "Platform income", "return": "Deposit going back", "internal": "Move between our addresses"}


def alert(kind: str) -> str:
    return ALERTS.get(kind, kind.replace("_", " ").capitalize())


def held_for(reasons: list[str]) -> str:
    """Say why a payout is held: "above the agent's limit of a day; income of the platform"."""
    return "; ".join(HELD_FOR.get(reason, reason.replace("_", " ")) for reason in reasons) or "a treasurer's word"


def waits_for(withdrawal: Any, *, paused: bool, finalized: int, funds_units: int | None, at: datetime) -> str:
    """
    Say what stands between an open payout and its end. `funds_units` is the treasury's own USDC, None if unknown.

    The row carries `given`, the number of approvals so far.
    """
    match withdrawal.state:
        case State.HELD:
            return f"approvals: {withdrawal.given} of {withdrawal.approvals_needed}"
        case State.COOLING:
            return "the time after a change of key, e-mail or address"
        case State.LAPSED:
            return "a final block that shows it was never paid"
        case State.BROADCAST:
            return "its block to be final"
    if paused:
        return "withdrawals to be resumed"
    if withdrawal.state == State.AUTHORIZED:
        return "a relayer to send it"
    if withdrawal.credited_block > finalized:
        return f"block {withdrawal.credited_block} to be final: money credited by then is in it"
    if funds_units is not None and withdrawal.amount_units > funds_units:
        return "the treasury's own USDC: deposit addresses are swept first"
    return "the treasury to sign it"
