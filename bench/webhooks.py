"""
What one courier sends a second, to receivers that answer at once.

    DATABASE_URL=postgres://… REDIS_URL=redis://… python -m bench webhooks [--events 10000] [--endpoints 1 50]

The receiver is a process of its own on loopback, and answers 200 to whatever comes. Everything else is as in
production: rows written by `log.record`, claims, signatures, the guarded client, records. The databases are made beside
that of DATABASE_URL and dropped at the end. Then: what a claim costs while 10,000 endpoints wait for later, and a dead
one has 100,000 rows.
"""

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import os
import pstats
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection

from bench.scan import database

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


# --- the receiver -----------------------------------------------------------------------------------------------------
class Receiver(asyncio.Protocol):
    """Counts requests by their bodies' ends, and answers each at once."""

    posts = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            Receiver.posts += 1
            self.transport.write(ANSWER)


def receive(told: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=1_000)
        told.send(server.sockets[0].getsockname()[1])
        async with server:
            await server.serve_forever()

    asyncio.run(serve())


# --- the process that is measured -------------------------------------------------------------------------------------
def fill(endpoints: int, events: int, port: int) -> None:
    """Tell one agent for each endpoint its share of the events."""
    from django.db import connection

    from accounts import clock
    from accounts.events import log
    from accounts.models import Agent, WebhookEndpoint

    agents = Agent.objects.bulk_create(
        [Agent(handle=f"hook-{endpoints}-{n}", handle_skeleton=f"hook-{endpoints}-{n}") for n in range(endpoints)]
    )
    WebhookEndpoint.objects.bulk_create(
        WebhookEndpoint(agent=agent, url=f"http://127.0.0.1:{port}/{number}") for number, agent in enumerate(agents)
    )
    data = {"job_id": str(agents[0].pk), "client": str(agents[0].pk), "seller": str(agents[0].pk), "price": "12.500000"}
    for _ in range(events // endpoints):
        log.record("job.delivered", to=[agent.pk for agent in agents], data=data, at=clock.now())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def send() -> dict[str, float]:
    """Send all that is due with one courier."""
    import psutil

    from accounts.events.courier import Courier
    from accounts.models import WebhookDelivery

    one = Courier()
    time.sleep(0.5)  # its thread, connection and subscription are there
    wall, cpu = time.perf_counter(), time.process_time()
    one.run_until_idle(timeout_seconds=600)
    seconds, spent = time.perf_counter() - wall, time.process_time() - cpu
    one.stop()
    sent = WebhookDelivery.objects.filter(state="delivered").count()
    return {"sent": sent, "seconds": seconds, "cpu": spent, "load": psutil.getloadavg()[0]}


def measure(endpoints: int, events: int, *, profiled: bool) -> dict[str, float]:
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("fork").Process(target=receive, args=[theirs], daemon=True)
    receiver.start()
    import django

    django.setup()
    fill(endpoints, events, ours.recv())
    if not profiled:
        return send()
    from accounts.events import courier, desk

    profiles = {"loop": cProfile.Profile(), "desk": cProfile.Profile()}
    work, exchange = courier.Courier._run, desk.exchange
    courier.Courier._run = lambda self: profiles["loop"].runcall(work, self)  # type: ignore[method-assign]
    desk.exchange = lambda *args: profiles["desk"].runcall(exchange, *args)
    found = send()
    for name, profile in profiles.items():
        print(name, file=sys.stderr)
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    return found


def claims(others: int = 10_000, rows: int = 100_000) -> dict[str, float]:
    """Time the claims of a courier whose dead receiver has many rows, while many others wait for later."""
    import django

    django.setup()
    from django.db import connection

    from accounts.events import deliveries
    from accounts.models import Agent, WebhookEndpoint

    agent = Agent.objects.create(handle="waiting", handle_skeleton="waiting")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_webhookendpoint (id, agent_id, url, event_types, state, disabled_reason,"
            " secret_generation, revision) SELECT accounts_uuid7(), %s, 'https://receiver.example/', '{}', 'enabled',"
            " '', 1, 1 FROM generate_series(0, %s)",
            [agent.pk, others],
        )
        insert = (
            "INSERT INTO accounts_webhookdelivery (endpoint_id, event_id, event_epoch, event_recorded_at, type,"
            " next_attempt_at) SELECT endpoint.id, n, 1, now(), 'key.added', now() + %s * interval '1 hour'"
            " FROM accounts_webhookendpoint endpoint, generate_series(1, %s) n WHERE (endpoint.id = %s) = %s"
        )
        dead = WebhookEndpoint.objects.order_by("pk")[others // 2]
        cursor.execute(insert, [1, 1, dead.pk, False])
        cursor.execute(insert, [-1, rows, dead.pk, True])
        cursor.execute("ANALYZE")
    WebhookEndpoint.objects.filter(pk=dead.pk).update(failing_since=dead.created_at)
    return {
        "all_ms": _median(lambda: deliveries.claim(500)),
        "some_ms": _median(lambda: deliveries.claim(500, endpoints=[dead.pk])),
        "waiting_ms": _median(deliveries.waiting),
    }


def _median(ask: object, times: int = 15) -> float:
    assert callable(ask)
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        ask()
        took.append(1_000 * (time.perf_counter() - begun))
    return statistics.median(took)


# --- around it --------------------------------------------------------------------------------------------------------
def child(url: str, *arguments: str) -> dict[str, float]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": url,
                   "BAILEE_PROCESS": "webhooks", "LOG_LEVEL": "ERROR"}  # fmt: skip
    command = [sys.executable, "-m", "bench.webhooks", *arguments]
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(found.splitlines()[-1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench webhooks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--profile", action="store_true", help="where the time goes; slower")
    parser.add_argument("--only", choices=["migrate", "send", "claims"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if "DATABASE_URL" not in os.environ:
        parser.error("DATABASE_URL names no server: `make up` tells of one")
    if asked.only == "migrate":
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        print("{}")
    elif asked.only == "send":
        print(json.dumps(measure(asked.endpoints[0], asked.events, profiled=asked.profile)))
    elif asked.only == "claims":
        print(json.dumps(claims()))
    else:
        compare(asked)
    return 0


def compare(asked: argparse.Namespace) -> None:
    made = f"bailee_webhooks_{os.getpid()}"
    with database(f"{made}_empty") as empty:
        child(empty, "--only", "migrate")
        print(
            "| endpoints | deliveries | a second | seconds | processor ms for each | load average |\n"
            + "|---" * 6
            + "|"
        )
        for endpoints in asked.endpoints:
            options = ["--events", str(asked.events), "--endpoints", str(endpoints)]
            with database(f"{made}_{endpoints}", template=f"{made}_empty") as url:
                found = child(url, "--only", "send", *options, *(["--profile"] if asked.profile else []))
            rate, spent = found["sent"] / found["seconds"], 1_000 * found["cpu"] / found["sent"]
            print(
                f"| {endpoints} | {found['sent']:,.0f} | {rate:,.0f} | {found['seconds']:.1f} | {spent:.2f}"
                f" | {found['load']:.1f} |",
                flush=True,
            )
        with database(f"{made}_claims", template=f"{made}_empty") as url:
            found = child(url, "--only", "claims")
        print("\n10,001 endpoints have pending rows, one of them 100,000; median milliseconds:")
        print(f"claim from all {found['all_ms']:.1f}, from a known one {found['some_ms']:.1f},"
              f" count who waits {found['waiting_ms']:.1f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
