"""What both have leaves over the chain, to addresses nobody used before."""

from datetime import datetime
from typing import Any, NamedTuple

from config.devstack.demo import kills
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


def withdraw_everything(ada: Agent, bruno: Agent, *, supervisor: int) -> list[Payout]:
    """Ask for all of it, fee included, and wait until the chain has settled it, whatever is killed meanwhile."""
    chapter("Money leaves over the chain: a payout survives a kill")
    fee_units = units(ada.get("/fees")["withdrawal_fee"])
    book = {agent: _entered(agent) for agent in (ada, bruno)}
    for agent, entry in book.items():
        _wait_for(agent, entry)
    hers = _ask(ada, book[ada], fee_units)
    victim = kills.treasury_during(ada, hers, supervisor=supervisor)
    his = _ask(bruno, book[bruno], fee_units)
    kills.wait_for_another(victim, supervisor=supervisor)
    return [_settled(agent, withdrawal) for agent, withdrawal in ((ada, hers), (bruno, his))]


def _entered(agent: Agent) -> dict[str, Any]:
    """Add an address that nobody used before to the agent's address book."""
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
    return entry


def _ask(agent: Agent, entry: dict[str, Any], fee_units: int) -> dict[str, Any]:
    amount_units = units(agent.get("/wallet")["available"]) - fee_units
    withdrawal = agent.post("/wallet/withdrawals", {"amount": text(amount_units), "address_id": entry["id"]})
    tell(agent.name, f"withdraws {short(amount_units)} (fee {short(withdrawal['fee'])}): {withdrawal['state']}")
    return withdrawal


def _wait_for(agent: Agent, entry: dict[str, Any]) -> None:
    """Wait by the platform's clock, which the address book reads too."""
    usable_at = datetime.fromisoformat(entry["usable_at"])
    agent.until(
        "/solvency",
        lambda books: datetime.fromisoformat(books["as_of"]) > usable_at,
        what="the cooling of the new address",
    )


def _settled(agent: Agent, withdrawal: dict[str, Any]) -> Payout:
    path = f"/wallet/withdrawals/{withdrawal['id']}"
    done = agent.until(path, lambda row: row["state"] not in OPEN, what=f"{agent.name}'s payout")
    if done["state"] != "settled":
        raise NeverHappened(f"{agent.name}'s payout ended as {done['state']}")
    tell("treasury", f"paid {short(done['amount'])} to {agent.name} in {done['tx_hash'][:14]}…, settled at finality")
    return Payout(agent, done["address"], units(done["amount"]), units(done["fee"]))
