"""
What open streams cost: so many of them on one `stream` process, each of an agent of its own, and events for all.

    DATABASE_URL=postgres://… REDIS_URL=redis://… python -m bench.streams [--streams 1000] [--rounds 5]

It starts the process as the local stack does, opens the streams, tells every agent something (a hundred of them at a
time in one transaction), and notes when each stream has it. The database is made beside that of DATABASE_URL and
dropped at the end.
"""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.scan import database
from config.devstack import applications, ports

CHUNK = 100


class Streams:
    """Open streams over plain sockets, and what came on each."""

    def __init__(self, port: int, secrets: list[str]) -> None:
        self.port, self.secrets = port, secrets
        self.opened = 0
        self.heard: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def open(self) -> float:
        """Open all of them, fifty at once; answer how many seconds that took."""
        began, at_once = time.monotonic(), asyncio.Semaphore(50)
        self.tasks = [asyncio.create_task(self._listen(secret, at_once)) for secret in self.secrets]
        while self.opened < len(self.secrets):
            await asyncio.sleep(0.05)
            for task in self.tasks:
                if task.done():
                    task.result()
        return time.monotonic() - began

    async def _listen(self, secret: str, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(
                f"GET /v1/events/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
            )
            while not (await reader.readline()).startswith(b"id: "):
                pass
        self.opened += 1
        while line := await reader.readline():
            if line.startswith(b"data: "):
                self.heard.append(time.monotonic())

    async def all_have(self, count: int, *, seconds: float) -> None:
        give_up = time.monotonic() + seconds
        while len(self.heard) < count:
            if time.monotonic() > give_up:
                sys.exit(f"only {len(self.heard)} of {count} events came within {seconds:.0f} s")
            await asyncio.sleep(0.01)


def prepare(url: str) -> None:
    import django
    from django.core.management import call_command
    from django.db import connection

    os.environ.update(DATABASE_URL=url, DJANGO_SETTINGS_MODULE="config.settings")
    django.setup()
    # A busy machine may let a migration wait for its own next statement.
    connection.settings_dict["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"
    call_command("migrate", verbosity=0)


def agents(count: int) -> tuple[list[Any], list[str]]:
    """Make agents with a token each."""
    from accounts import tokens
    from accounts.models import Agent

    made = [Agent(handle=f"s{n:05}", handle_skeleton=f"s{n:05}", display_name=str(n)) for n in range(count)]
    Agent.objects.bulk_create(made)
    return [agent.pk for agent in made], [tokens.mint(agent).secret for agent in made]


def tell(recipients: list[Any]) -> None:
    from accounts import clock
    from accounts.events import log

    for start in range(0, len(recipients), CHUNK):
        log.record("job.proposed", to=recipients[start : start + CHUNK], data={"title": "a job"}, at=clock.now())


def worker_of(process: "subprocess.Popen[bytes]") -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[-1])


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1_000_000


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def play(port: int, worker: int, made: tuple[list[Any], list[str]], rounds: int) -> None:
    recipients, secrets = made
    streams = Streams(port, secrets)
    print(f"RSS without a stream: {rss_mb(worker):.0f} MB")
    took = await streams.open()
    print(f"{len(secrets)} streams opened in {took:.1f} s; RSS {rss_mb(worker):.0f} MB")
    cpu, idle = cpu_seconds(worker), 10.0
    await asyncio.sleep(idle)
    print(f"idle: {(cpu_seconds(worker) - cpu) / idle:.1%} of a core")
    for number in range(rounds):
        streams.heard.clear()
        cpu, began = cpu_seconds(worker), time.monotonic()
        await asyncio.to_thread(tell, recipients)
        told = time.monotonic() - began
        await streams.all_have(len(secrets), seconds=60)
        late = sorted(at - began for at in streams.heard)
        print(
            f"round {number + 1}: written in {told:.2f} s; median {late[len(late) // 2]:.2f} s, last {late[-1]:.2f} s;"
            f" {cpu_seconds(worker) - cpu:.2f} s of CPU; RSS {rss_mb(worker):.0f} MB"
        )
    for task in streams.tasks:
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with database("bailee_bench_streams") as url:
        prepare(url)
        made = agents(asked.streams)
        port = ports.any_free()
        table = applications.table(port=0, stream_port=port)
        command = next(application.command for application in table if application.name == "stream")
        env = {**os.environ, "DATABASE_URL": url, "BAILEE_PROCESS": "stream", "LOG_LEVEL": "ERROR"}
        process = subprocess.Popen([str(part) for part in command], env=env, stdout=subprocess.DEVNULL)
        try:
            while not applications.answers(f"http://127.0.0.1:{port}/readyz"):
                time.sleep(0.1)
            asyncio.run(play(port, worker_of(process), made, asked.rounds))
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main()
