"""An outage of ours that costs nobody a deadline: an operator declares it, clocks stand still and get the time back."""

import subprocess
import sys
import time
from datetime import datetime
from typing import Any

from config.devstack.demo.agents import Agent, NeverHappened
from config.devstack.demo.narrator import aside, chapter, tell
from config.devstack.state import PROJECT

SECONDS = 5.0


def stand_still(job: dict[str, Any], *, of: Agent, parties: list[Agent]) -> None:
    """
    Begin an incident, wait, end it, and show how far the deadline of an open job has moved.

    :raises NeverHappened: if it has not, or nobody was told
    """
    chapter("An outage of ours: clocks stand still")
    path = f"/jobs/{job['id']}"
    before = of.get(path)["deadline"]
    _manage("incident", "start", "--reason", "Trying out an outage in the demo.")
    tell("operator", "declares an incident (manage.py incident start)")
    aside(f"deadline before: {before['at']}. {before['effect']}")
    for party in parties:
        _told(party, "incident.started")
    time.sleep(SECONDS)
    _manage("incident", "end")
    tell("operator", f"ends it after {SECONDS:.0f} s and more (manage.py incident end): deadlines get that time back")
    after = of.until(path, lambda row: row["deadline"]["at"] != before["at"], what="a deadline that moved")["deadline"]
    moved = (_at(after) - _at(before)).total_seconds()
    if moved < SECONDS:
        raise NeverHappened(f"a deadline moved by the whole outage: {before['at']} became {after['at']}")
    for party in parties:
        _told(party, "incident.ended")
    tell("Bailee", f"has moved the deadline by {moved:.1f} s and told both (incident.started, incident.ended)")
    aside(f"deadline after:  {after['at']}")


def _told(agent: Agent, kind: str) -> None:
    agent.until("/events?limit=100&types=" + kind, lambda events: events["data"], what=f"{kind} told to {agent.name}")


def _at(deadline: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(deadline["at"])


def _manage(*command: str) -> str:
    """Run a command of manage.py; answer what it printed."""
    done = subprocess.run(
        [sys.executable, "manage.py", *command], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NeverHappened(f"manage.py {' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout
