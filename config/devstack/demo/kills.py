"""`kill -9`: a process that ends where it stands, without a word; the supervisor starts it again."""

import os
import signal
import time
from typing import Any

from config.devstack import processes
from config.devstack.demo.agents import PATIENCE_SECONDS, Agent, NeverHappened
from config.devstack.demo.money import short
from config.devstack.demo.narrator import tell

TREASURY = "treasury@"
# States in which a payout is signed, or with the node, and not yet decided by the chain.
UNDER_WAY = {"authorized", "broadcast"}


def treasury_during(agent: Agent, withdrawal: dict[str, Any], *, supervisor: int) -> int:
    """
    Kill the treasury process as soon as a payout is under way; answer its number.

    :param supervisor: the process whose child it is
    """
    path = f"/wallet/withdrawals/{withdrawal['id']}"
    row = agent.until(
        path, lambda row: row["state"] != "requested", what=f"{agent.name}'s payout under way", every=0.02
    )
    victim = _found(supervisor)
    kill(victim)
    if row["state"] not in UNDER_WAY:
        raise NeverHappened(f"{agent.name}'s payout was {row['state']}, not under way, when the treasury was killed")
    tell("someone", f"kills the treasury process (kill -9 {victim}) while {short(row['amount'])} are {row['state']}")
    return victim


def wait_for_another(victim: int, *, supervisor: int) -> None:
    """Wait until the supervisor has started the treasury process again."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (started := processes.child_of(supervisor, TREASURY)) in (None, victim):
        if time.monotonic() > give_up:
            raise NeverHappened(f"a new treasury process within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.1)
    tell("Bailee", f"has started it again (process {started}): rows say what was begun, the token pays a nonce once")


def _found(supervisor: int) -> int:
    victim = processes.child_of(supervisor, TREASURY)
    if victim is None:
        raise NeverHappened("a treasury process to kill")
    return victim


def kill(leader: int) -> None:
    """It leads a group of its own, in which the process that signs is too: nothing of it may go on."""
    if os.getpgid(leader) != leader:
        raise NeverHappened(f"process {leader} leading a group of its own")
    os.killpg(leader, signal.SIGKILL)
