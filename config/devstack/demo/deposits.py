"""Money comes in: Bruno's deposit as usual, Ada's through a reorganisation of the chain that takes its block away."""

from functools import partial
from typing import Any

from config.devstack.demo.agents import Agent, NeverHappened
from config.devstack.demo.money import short, text
from config.devstack.demo.narrator import aside, chapter, tell
from config.devstack.demo.tokens import Token

DEPOSITS = {"Ada": 90_000_000, "Bruno": 10_000_000}


def arrive(ada: Agent, bruno: Agent, token: Token, *, may_reorganise: bool) -> None:
    """Both send USDC to their own addresses and wait until it is theirs to spend."""
    chapter("Money comes in over the chain")
    _send(bruno, token)
    if may_reorganise:
        _survive_a_reorg(ada, token)
    else:
        _send(ada, token)
    for agent in (ada, bruno):
        expected = text(DEPOSITS[agent.name])
        agent.until("/wallet", partial(_has, expected), what=f"{agent.name}'s deposit")
        tell("Bailee", f"has seen the blocks stand: {agent.name} has {short(expected)} available")
    if may_reorganise:
        _require_one_credit(ada)


def _send(agent: Agent, token: Token) -> bytes:
    """Answer the hash of the transaction."""
    place = agent.get("/wallet/deposit-address")
    tx_hash, block = token.mint(place["address"], DEPOSITS[agent.name])
    tell(agent.name, f"sends {short(DEPOSITS[agent.name])} to its own address {place['address']} (block {block})")
    aside(place["credit_rule"])
    return tx_hash


# --- the reorganisation -----------------------------------------------------------------------------------------------
def _survive_a_reorg(ada: Agent, token: Token) -> None:
    """Take the block of Ada's deposit off the chain, then let another block have the same transaction."""
    chapter("A deposit survives a reorg")
    tx_hash = _send(ada, token)
    with token.no_new_blocks():  # so that this tells the same story on a slow machine: seen, but not safe yet
        _wait_for(ada, "seen")
        raw = token.raw(tx_hash)
        depth = token.forget(tx_hash)
    tell("someone", f"reorganises the chain: other blocks take the place of its newest {depth}")
    deposit = _wait_for(ada, "orphaned")
    tell("Bailee", f"has noticed: the deposit is {deposit['state']}, with {deposit['confirmations']} confirmations")
    wallet = ada.get("/wallet")
    if wallet["available"] != text(0):
        raise NeverHappened(f"Ada has {wallet['available']} of a deposit that is not on the chain")
    aside(f"Ada: {short(wallet['available'])} available; what is not on the chain is nobody's money")
    block = token.send(raw)
    tell("Ada", f"sends the same transaction again, byte for byte: block {block} of the new branch has it")


def _wait_for(agent: Agent, state: str) -> dict[str, Any]:
    """Wait for the agent's only deposit to be in this state, and show it."""
    rows = agent.until("/wallet/deposits", partial(_all_are, state), what=f"{agent.name}'s deposit, {state}")["data"]
    aside(f"GET /wallet/deposits: {_shown(rows)}")
    return rows[0]


def _require_one_credit(agent: Agent) -> None:
    """
    Count what the deposit came to.

    :raises NeverHappened: unless it is one deposit, posted once
    """
    rows = agent.get("/wallet/deposits")["data"]
    posted = [line for line in agent.get("/wallet/statement")["data"] if line["kind"].startswith("deposit")]
    told = [event["type"] for event in agent.get("/events")["data"] if event["type"].startswith("deposit.")]
    aside(f"GET /wallet/deposits: {_shown(rows)}")
    aside("GET /wallet/statement: " + ", ".join(f"{line['kind']} {line['amount']}" for line in posted))
    aside(f"GET /events: {', '.join(told)}")
    if [row["state"] for row in rows] != ["credited"] or len(posted) != 1:
        raise NeverHappened(f"{agent.name}'s deposit, credited exactly once: {rows}, {posted}")
    tell("Bailee", f"credited it exactly once, with {rows[0]['confirmations']} confirmations on the branch that stands")


def _shown(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['amount']} {row['state']} (block {row['block_number']})" for row in rows)


def _all_are(state: str, page: dict[str, Any]) -> bool:
    return [row["state"] for row in page["data"]] == [state]


def _has(expected: str, wallet: dict[str, Any]) -> bool:
    return bool(wallet["available"] == expected)
