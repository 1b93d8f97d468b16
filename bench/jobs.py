"""
Plays complete jobs over HTTP with N concurrent pairs against a running stack, and says what they cost.

    make up                                        # in one terminal
    python -m bench.jobs --pairs 8 --seconds 20    # in another

Agents register through the API; their balance comes from the faucet of `chain.json`, as test USDC sent to their deposit
addresses. A job is propose, counter, agree, fund, start, deliver, approve, each call with its own Idempotency-Key.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from config.devstack.demo.agents import Agent
from config.devstack.demo.tokens import Token

CALLS = ("propose", "counter", "agree", "fund", "start", "deliver", "approve")
PRICE = "0.100000"
# What is below stays creditable when the block is `safe`; more would wait until it is `finalized`.
MOST_UNITS = 90_000_000
TERMS = {
    "price": PRICE,
    "title": "Summarise a page",
    "requirements": {"language": "en", "sentences": 3, "sources": ["https://example.org/a", "https://example.org/b"]},
    "delivery_seconds": 86_400,
    "seller_bond": "0.010000",
}
WORK = {"content": {"summary": "Three sentences. " * 20, "sources": [1, 2]}}


class Failed(Exception):
    """A call was refused; under load that is a finding, not a reason to go on."""


class Sample(NamedTuple):
    call: str
    seconds: float


class Party:
    """One agent with one kept-alive connection, as lean as the standard library allows."""

    def __init__(self, agent: Agent) -> None:
        url = urlsplit(str(agent.http.base_url))
        self.agent = agent
        self.connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        self.headers = {"Authorization": agent.http.headers["Authorization"], "Content-Type": "application/json"}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask once; answer the JSON of the answer."""
        raw = json.dumps(body)
        self.connection.request("POST", f"/v1{path}", raw, self.headers | {"Idempotency-Key": str(uuid.uuid4())})
        answer = self.connection.getresponse()
        read = answer.read()
        if answer.status >= 300:
            raise Failed(f"POST {path}: {answer.status} {read.decode()[:300]}")
        return json.loads(read)


class Pair:
    """A client and a seller who do one job after the other."""

    def __init__(self, client: Agent, seller: Agent) -> None:
        self.client, self.seller = Party(client), Party(seller)
        self.samples: list[Sample] = []
        self.jobs = 0

    def play_until(self, end: float) -> None:
        while time.monotonic() < end:
            self.play()

    def play(self) -> None:
        client, seller = self.client, self.seller
        job = self._timed("propose", client, "/jobs", {"seller": seller.agent.id, "terms": TERMS})
        path = f"/jobs/{job['id']}"
        job = self._timed("counter", seller, f"{path}/offers", {"terms": TERMS | {"delivery_seconds": 90_000}})
        self._timed("agree", client, f"{path}/agreement", {"terms_hash": job["offer"]["terms_hash"]})
        self._timed("fund", client, f"{path}/funding", {})
        self._timed("start", seller, f"{path}/start", {})
        self._timed("deliver", seller, f"{path}/deliveries", WORK)
        job = self._timed("approve", client, f"{path}/approval", {})
        assert job["state"] == "completed"
        self.jobs += 1

    def _timed(self, call: str, party: Party, path: str, body: dict[str, Any]) -> Any:
        begun = time.perf_counter()
        answer = party.post(path, body)
        self.samples.append(Sample(call, time.perf_counter() - begun))
        return answer


def main() -> int:
    """Measure and print; exit 1 if a call was refused."""
    asked = _arguments()
    stack = json.loads((asked.state_dir / "stack.json").read_text())
    token = Token(json.loads((asked.state_dir / "chain.json").read_text()))
    print(f"Registering {2 * asked.pairs} agents and sending them test USDC", flush=True)
    pairs = _pairs(asked.pairs, stack["web_url"], token)
    _run(pairs, asked.warm_up)
    for pair in pairs:
        pair.samples.clear()
        pair.jobs = 0
    spent = Spent(stack["pid"])
    seconds, refusals = _run(pairs, asked.seconds)
    _report(pairs, seconds, spent.since_the_start())
    for refusal in refusals:
        print(refusal, file=sys.stderr)
    return 1 if refusals else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=8, choices=range(1, 65), metavar="1..64")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure, at most 600")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds to play before that")
    parser.add_argument("--state-dir", type=Path, default=Path(os.environ.get("STATE_DIR", ".local")))
    asked = parser.parse_args()
    asked.seconds = min(asked.seconds, 600.0)
    return asked


# --- before -----------------------------------------------------------------------------------------------------------
def _pairs(count: int, web_url: str, token: Token) -> list[Pair]:
    agents = [Agent(web_url, f"Bench{number}") for number in range(2 * count)]
    for agent in agents:
        agent.register("I am here to measure.")
        token.mint(agent.get("/wallet/deposit-address")["address"], MOST_UNITS)
    for agent in agents:
        agent.until("/wallet", lambda wallet: Decimal(wallet["available"]) > 0, what="the credit of a deposit")
    return [Pair(agents[2 * number], agents[2 * number + 1]) for number in range(count)]


# --- meanwhile --------------------------------------------------------------------------------------------------------
def _run(pairs: list[Pair], seconds: float) -> tuple[float, list[str]]:
    """Play with all pairs at once; answer how long it took and what was refused."""
    refusals: list[str] = []

    def play(pair: Pair) -> None:
        try:
            pair.play_until(begun + seconds)
        except (Failed, OSError, http.client.HTTPException) as error:
            refusals.append(str(error))

    begun = time.monotonic()
    threads = [threading.Thread(target=play, args=[pair]) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begun, refusals


class Spent:
    """Processor time of the stack's processes from here on."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = dict(self._now())

    def since_the_start(self) -> dict[str, float]:
        """Answer seconds by part: `web`, `postgres` and the rest."""
        spent: dict[str, float] = {}
        for (process, part), seconds in self._now():
            spent[part] = spent.get(part, 0.0) + seconds - self.before.get((process, part), 0.0)
        return spent

    def _now(self) -> Iterator[tuple[tuple[int, str], float]]:
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                times = process.cpu_times()
                yield (process.pid, _part(" ".join(process.cmdline()))), times.user + times.system
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue


def _part(command: str) -> str:
    named = {"granian": "web", "config.wsgi": "web", "postgres": "postgres", "celery": "celery"}
    return next((part for word, part in named.items() if word in command), "the rest")


# --- after ------------------------------------------------------------------------------------------------------------
def _report(pairs: list[Pair], seconds: float, spent: dict[str, float]) -> None:
    jobs = sum(pair.jobs for pair in pairs)
    samples = [sample for pair in pairs for sample in pair.samples]
    print(f"\n{len(pairs)} pairs, {seconds:.1f} s: {jobs} jobs, {jobs / seconds:.1f} jobs/s, "
          f"{len(samples) / seconds:.0f} calls/s\n")  # fmt: skip
    print("| call | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|")
    for call in (*CALLS, "all"):
        times = sorted(sample.seconds * 1_000 for sample in samples if call in (sample.call, "all"))
        print(f"| {call} | " + " | ".join(f"{_quantile(times, share):.1f}" for share in (50, 95, 99)) + " |")
    print("\n| processor time | ms per job |\n|---|---|")
    for part, cpu in sorted(spent.items()):
        print(f"| {part} | {1_000 * cpu / max(jobs, 1):.1f} |")
    print(f"\nLoad average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")


def _quantile(times: list[float], share: int) -> float:
    if len(times) < 2:
        return times[0] if times else float("nan")
    return statistics.quantiles(times, n=100, method="inclusive")[share - 1]


if __name__ == "__main__":
    sys.exit(main())
