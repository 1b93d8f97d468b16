"""What a receiver of webhooks was told, compared to what `/v1/events` lists: nothing missing, and nothing else."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

from config.devstack.demo.agents import PATIENCE_SECONDS, Agent
from config.devstack.demo.narrator import tell
from config.devstack.processes import dies_with_us
from config.devstack.state import PROJECT


class ToldOtherwise(Exception):
    """A receiver did not get what `/v1/events` lists."""


class Receiver:
    """A process that takes the webhooks of both agents (receiver.py)."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self._process, self._file = process, file
        self._url = f"http://127.0.0.1:{_line(process)}"
        # The last event before the endpoint was there.
        self._since: dict[Agent, str] = {}

    def listen(self, agent: Agent) -> None:
        """Register for everything that the agent is told from now on."""
        path = f"/{agent.handle}"
        self._since[agent] = last(agent)
        endpoint = agent.post("/webhook-endpoints", {"url": self._url + path})
        print(json.dumps({"path": path, "secret": endpoint["secret"]}), file=self._process.stdin, flush=True)
        tell(agent.name, f"registers {endpoint['url']} for webhooks, and keeps the secret that signs them")

    def compare(self) -> None:
        """
        Wait until everything has come, and compare.

        :raises ToldOtherwise: if something is missing, or was not listed, or is not the same
        """
        for agent, since in self._since.items():
            self._compare(agent, since)

    def _compare(self, agent: Agent, since: str) -> None:
        count = len(agree(agent, since, lambda: [entry["event"] for entry in self._taken(agent)]))
        taken = self._taken(agent)
        # A message keeps its id in every attempt, and no other has it.
        pairs = {(entry["id"], entry["event"]["id"]) for entry in taken}
        if not len(pairs) == len({message for message, _ in pairs}) == len({event for _, event in pairs}) == count:
            raise ToldOtherwise(f"{agent.name}: {count} events came as {len(pairs)} messages: {sorted(pairs)}")
        again = f" ({len(taken) - count} came twice, with the same id)" if len(taken) > count else ""
        tell(agent.name, f"got {count} events as webhooks{again}: each exactly as /v1/events lists it, none else")

    def _taken(self, agent: Agent) -> list[dict[str, Any]]:
        lines = self._file.read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["path"] == f"/{agent.handle}"]


@contextlib.contextmanager
def receiver(state: Path) -> Iterator[Receiver]:
    """Run one for as long as the story is told."""
    file = state / "received.jsonl"
    file.write_text("")
    process = subprocess.Popen(
        [sys.executable, "-m", "config.devstack.demo.receiver", file],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=dies_with_us(SIGTERM),
    )
    try:
        yield Receiver(process, file)
    finally:
        process.terminate()
        process.wait()


def agree(agent: Agent, since: str, heard: Callable[[], list[dict[str, Any]]]) -> list[str]:
    """
    Wait until an agent has heard all that `/v1/events` lists after a cursor, JSON for JSON; answer their ids, in order.

    :raises ToldOtherwise: if something is missing, or was not listed, or is not the same
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        listed = {event["id"]: event for event in _events(agent, after=since)}
        got = {event["id"]: event for event in heard()}
        if listed == got:
            return list(listed)
        if time.monotonic() > give_up:
            break
        time.sleep(0.3)
    missing, strange = sorted(listed.keys() - got.keys()), sorted(got.keys() - listed.keys())
    changed = sorted(number for number in listed.keys() & got.keys() if listed[number] != got[number])
    raise ToldOtherwise(f"{agent.name}: missing {missing}, never listed {strange}, not the same {changed}")


def last(agent: Agent) -> str:
    """The cursor of what the agent was told last."""
    events = _events(agent, after="")
    return events[-1]["cursor"] if events else ""


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout else ""


def _events(agent: Agent, *, after: str) -> list[dict[str, Any]]:
    """Everything that the agent was told after a cursor."""
    found: list[dict[str, Any]] = []
    while page := agent.get("/events", after=after, limit=100)["data"]:
        found += page
        after = page[-1]["cursor"]
    return found
