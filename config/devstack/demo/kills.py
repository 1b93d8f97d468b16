"""`kill -9`: a process that ends where it stands, without a word; the supervisor starts it again."""

import os
import signal
import time
from typing import Any

from config.devstack import processes
from config.devstack.demo.agents import PATIENCE_SECONDS, Agent, NeverHappened
from config.devstack.demo.money import short
from config.devstack.demo.narrator import tell

TREASURY, WORKER, WEBHOOKS = "treasury@", "worker@", "webhooks@"
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
    victim = _found(TREASURY, supervisor)
    kill(victim)
    if row["state"] not in UNDER_WAY:
        raise NeverHappened(f"{agent.name}'s payout was {row['state']}, not under way, when the treasury was killed")
    tell("someone", f"kills the treasury process (kill -9 {victim}) while {short(row['amount'])} are {row['state']}")
    return victim


def workers(*, supervisor: int) -> dict[str, int]:
    """Kill the worker, which minds deadlines, and the one that sends webhooks; answer their numbers."""
    victims = {mark: _found(mark, supervisor) for mark in (WORKER, WEBHOOKS)}
    for victim in victims.values():
        kill(victim)
    killed = " ".join(map(str, victims.values()))
    tell("someone", f"kills the workers for deadlines and for webhooks (kill -9 {killed}) with messages on their way")
    return victims


def wait_for_other_workers(victims: dict[str, int], *, supervisor: int) -> None:
    """Wait until the supervisor has started them again."""
    started = [_another(mark, victim, supervisor) for mark, victim in victims.items()]
    tell("Bailee", f"has started both again (processes {started[0]} and {started[1]}): what was due is still in rows")


def wait_for_another(victim: int, *, supervisor: int) -> None:
    """Wait until the supervisor has started the treasury process again."""
    started = _another(TREASURY, victim, supervisor)
    tell("Bailee", f"has started it again (process {started}): rows say what was begun, the token pays a nonce once")


def _another(mark: str, victim: int, supervisor: int) -> int:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (started := processes.child_of(supervisor, mark)) in (None, victim):
        if time.monotonic() > give_up:
            raise NeverHappened(f"a new process {mark} within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.1)
    return started


def _found(mark: str, supervisor: int) -> int:
    victim = processes.child_of(supervisor, mark)
    if victim is None:
        raise NeverHappened(f"a process {mark} to kill")
    return victim


def kill(leader: int) -> None:
    """It leads a group of its own, in which the process that signs is too: nothing of it may go on."""
    if os.getpgid(leader) != leader:
        raise NeverHappened(f"process {leader} leading a group of its own")
    os.killpg(leader, signal.SIGKILL)
