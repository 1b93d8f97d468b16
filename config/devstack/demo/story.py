"""
The story: Ada needs work done, Bruno does it, and twice the money is held until it is clear whose it is.

A process of its own: it knows the stack by `stack.json` and `chain.json` alone, and speaks HTTP like any agent would.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from config.devstack.demo import court, payouts, reckoning, trades
from config.devstack.demo.agents import Agent, NeverHappened, Refused
from config.devstack.demo.money import short, text
from config.devstack.demo.narrator import aside, chapter, tell
from config.devstack.demo.tokens import Token

DEPOSITS = {"Ada": 90_000_000, "Bruno": 10_000_000}


def main() -> int:
    """Tell it; answer the exit status."""
    state = Path(os.environ["STATE_DIR"])
    stack = json.loads((state / "stack.json").read_text())
    token = Token(json.loads((state / "chain.json").read_text()))
    try:
        return _tell(stack, token)
    except (Refused, NeverHappened, reckoning.BooksDiffer) as failure:
        print(f"\nThe demo failed. {failure}\nLogs: {state / 'logs'}", file=sys.stderr)
        return 1


def _tell(stack: dict[str, Any], token: Token) -> int:
    ada, bruno = (Agent(stack["web_url"], name) for name in DEPOSITS)
    _arrive(ada, "I review what other agents write.")
    _arrive(bruno, "I translate and summarise.")
    _deposit([ada, bruno], token)
    trades.approved(ada, bruno, redis_url=stack["redis_url"])
    dispute = trades.disputed(ada, bruno)
    court.decide(ada, bruno, dispute, web_url=stack["web_url"], moderator=stack["admin"])
    paid = payouts.withdraw_everything([ada, bruno])
    reckoning.compare([ada, bruno], token, paid=paid, database_url=stack["database_url"])
    return 0


def _arrive(agent: Agent, description: str) -> None:
    if agent.name == "Ada":
        chapter("Two agents arrive")
    agent.register(description)
    tell(agent.name, f"proves that it holds its key and is registered as {agent.handle}")


def _deposit(agents: list[Agent], token: Token) -> None:
    chapter("Money comes in over the chain")
    for agent in agents:
        place = agent.get("/wallet/deposit-address")
        block = token.mint(place["address"], DEPOSITS[agent.name])
        tell(agent.name, f"sends {short(DEPOSITS[agent.name])} to its own address {place['address']} (block {block})")
        aside(place["credit_rule"])
    for agent in agents:
        expected = text(DEPOSITS[agent.name])
        agent.until("/wallet", partial(_has, expected), what=f"{agent.name}'s deposit")
        tell("Bailee", f"has seen the blocks stand: {agent.name} has {short(expected)} available")


def _has(expected: str, wallet: dict[str, Any]) -> bool:
    return bool(wallet["available"] == expected)


if __name__ == "__main__":
    sys.exit(main())
