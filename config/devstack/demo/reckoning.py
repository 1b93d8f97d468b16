"""The end of the story: the ledger, the chain, and what both agents should have, all compared to the micro-USDC."""

import subprocess
import sys

import psycopg

from config.devstack.demo.agents import Agent
from config.devstack.demo.money import short, units
from config.devstack.demo.narrator import chapter
from config.devstack.demo.payouts import Payout
from config.devstack.demo.tokens import Token
from config.devstack.state import PROJECT

# Worked out by hand, from the terms and the ruling: deposit, less what was paid for work, plus what was earned less the
# fee of 1 %, less the fee of the withdrawal.
DUE = {
    "Ada": 90_000_000 - 25_000_000 - 16_000_000 - 500_000,
    "Bruno": 10_000_000 + 24_750_000 + 15_840_000 - 500_000,
}


class BooksDiffer(Exception):
    """Two accounts of the same money are not equal."""


def compare(agents: list[Agent], token: Token, *, paid: list[Payout], database_url: str) -> None:
    """
    Show each pair of figures beside one another.

    :raises BooksDiffer: naming the pairs that are not equal
    """
    chapter("The books")
    _check("check_books", "--full")
    _check("check_chain")
    rows = []
    for payout in paid:
        _require_one_payment(payout, token)
        name = payout.agent.name
        rows.append((f"{name}: due by terms and ruling, paid by the ledger", DUE[name], payout.amount_units))
        rows.append(
            (f"{name}: paid by the ledger, arrived on the chain", payout.amount_units, token.balance(payout.address))
        )
    rows += [(f"{agent.name}: left in the wallet, expected nothing", _left(agent), 0) for agent in agents]
    books = agents[0].get("/solvency")
    rows.append(
        ("platform: owed to anybody, in custody by the ledger", units(books["liabilities"]), units(books["custody"]))
    )
    rows.append(
        ("platform: in custody by the ledger, held on the chain", units(books["custody"]), _held(token, database_url))
    )
    for what, one, other in rows:
        print(f"  {'=' if one == other else '≠'}  {what:<54} {short(one):>16} {short(other):>16}", flush=True)
    wrong = [what for what, one, other in rows if one != other]
    if wrong:
        raise BooksDiffer("The books differ: " + "; ".join(wrong))
    print("\nLedger and chain agree to the micro-USDC.", flush=True)


def _check(*command: str) -> None:
    """Run a command of manage.py and show what it found."""
    done = subprocess.run(
        [sys.executable, "manage.py", *command], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    print(done.stdout.rstrip(), flush=True)
    if done.returncode != 0:
        raise BooksDiffer(done.stderr.strip())


def _require_one_payment(payout: Payout, token: Token) -> None:
    """One transfer to its address, whatever was killed on the way."""
    made = token.payments_to(payout.address)
    if [transfer.amount_units for transfer in made] != [payout.amount_units]:
        raise BooksDiffer(f"The chain has {len(made)} transfers to {payout.agent.name}'s address: {made}")
    transaction = made[0].tx_hash.hex()[:12]
    print(f"  1  transfer to {payout.address} on the chain: {payout.agent.name}, 0x{transaction}…", flush=True)


def _left(agent: Agent) -> int:
    wallet = agent.get("/wallet")
    return sum(units(wallet[kind]) for kind in ("available", "withdrawing", "staked", "held", "bonded"))


def _held(token: Token, database_url: str) -> int:
    """Add up what the treasury and every deposit address hold, all in one block."""
    with psycopg.connect(database_url) as connection:
        places = [bytes(row[0]) for row in connection.execute("SELECT address FROM escrow_depositaddress")]
    block = token.head()
    return token.balance(token.treasury, block=block) + sum(token.balance(place, block=block) for place in places)
