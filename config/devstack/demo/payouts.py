"""What both have leaves over the chain, to addresses nobody used before."""

from datetime import datetime
from typing import Any, NamedTuple

from config.devstack.demo.agents import Agent, NeverHappened
from config.devstack.demo.money import short, text, units
from config.devstack.demo.narrator import aside, chapter, tell
from config.devstack.demo.tokens import fresh_address

# States from which a withdrawal still moves.
OPEN = {"requested", "cooling", "held", "authorized", "broadcast"}


class Payout(NamedTuple):
    """A withdrawal that was settled; the amount is micro-USDC."""

    agent: Agent
    address: str
    amount_units: int
    fee_units: int


def withdraw_everything(agents: list[Agent]) -> list[Payout]:
    """Ask for all of it, fee included, and wait until the chain has settled it."""
    chapter("Money leaves over the chain")
    fee_units = units(agents[0].get("/fees")["withdrawal_fee"])
    asked = [(agent, *_ask(agent, fee_units)) for agent in agents]
    return [_settled(agent, address, withdrawal) for agent, address, withdrawal in asked]


def _ask(agent: Agent, fee_units: int) -> tuple[str, dict[str, Any]]:
    address = fresh_address()
    signed = agent.signed("confirm")
    entry = agent.post(
        "/wallet/addresses",
        {
            "address": address,
            "label": "cold wallet",
            "challenge_id": signed["challenge_id"],
            "signature": signed["signature"],
        },
    )
    tell(agent.name, f"adds {address} to its address book, by a signature of its key")
    aside(f"usable from {entry['usable_at']}")
    _wait_for(agent, entry)
    amount_units = units(agent.get("/wallet")["available"]) - fee_units
    withdrawal = agent.post("/wallet/withdrawals", {"amount": text(amount_units), "address_id": entry["id"]})
    tell(agent.name, f"withdraws {short(amount_units)} (fee {short(withdrawal['fee'])}): {withdrawal['state']}")
    return address, withdrawal


def _wait_for(agent: Agent, entry: dict[str, Any]) -> None:
    """Wait by the platform's clock, which the address book reads too."""
    usable_at = datetime.fromisoformat(entry["usable_at"])
    agent.until(
        "/solvency",
        lambda books: datetime.fromisoformat(books["as_of"]) > usable_at,
        what="the cooling of the new address",
    )


def _settled(agent: Agent, address: str, withdrawal: dict[str, Any]) -> Payout:
    path = f"/wallet/withdrawals/{withdrawal['id']}"
    done = agent.until(path, lambda row: row["state"] not in OPEN, what=f"{agent.name}'s payout")
    if done["state"] != "settled":
        raise NeverHappened(f"{agent.name}'s payout ended as {done['state']}")
    tell("treasury", f"paid {short(done['amount'])} to {agent.name} in {done['tx_hash'][:14]}…, settled at finality")
    return Payout(agent, address, units(done["amount"]), units(done["fee"]))
