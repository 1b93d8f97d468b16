"""
What a scan costs: reading a busy chain, with few and with many deposit addresses.

    DATABASE_URL=postgres://… python -m bench.scan [--addresses 1000 100000] [--blocks 200] [--logs 300]

Reads the made-up chain of bench/node.py from its first block to its head with `scans.scan()`, in a process of its own,
once for each number of addresses. The same transfers are ours each time, so only the number of addresses differs. The
databases are made beside that of DATABASE_URL and dropped at the end.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from bench import node

PAID = 500  # so many agents are paid, whoever else has an address
FACTORY = "0x" + "fa" * 20
START = 0


def address_of(number: int) -> bytes:
    return sha256(b"deposit address %d" % number).digest()[:20]


# --- the process that is measured -------------------------------------------------------------------------------------
def measure() -> dict[str, float]:
    """Scan from the first block to the head; everything that was used for it."""
    import django

    django.setup()
    from django.db import connection

    from escrow import scans
    from escrow.chain import network
    from escrow.models import Deposit

    network.node().chain_id()  # web3 and the connection are there before the clock runs
    statements = 0

    def counted(execute, *arguments):
        nonlocal statements
        statements += 1
        return execute(*arguments)

    before, wall, cpu = _kilobytes(), time.perf_counter(), time.process_time()
    with connection.execute_wrapper(counted):
        blocks = scans.scan()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "blocks": blocks,
        "statements": statements,
        "rss_before": before,
        "rss": _kilobytes(),
        "deposits": Deposit.objects.count(),
    }


def _kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- around it --------------------------------------------------------------------------------------------------------
@contextmanager
def database(name: str, template: str = "") -> Iterator[str]:
    """A database of our own beside that of DATABASE_URL; answers its URL."""
    url = urlsplit(os.environ["DATABASE_URL"])
    with psycopg.connect(url._replace(path="/postgres").geturl(), autocommit=True) as server:
        made, source = sql.Identifier(name), sql.Identifier(template or "template1")
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(made, source))
        try:
            yield url._replace(path=f"/{name}").geturl()
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))


def fill(count: int) -> None:
    """Give so many agents a deposit address."""
    import django

    django.setup()
    from django.db import connection

    from accounts.models import Agent
    from escrow import treasury
    from escrow.chain import addresses
    from escrow.models import DepositAddress

    factory = addresses.parse(FACTORY)
    treasury.register(sha256(b"treasury").digest()[:20], chain_id=node.CHAIN_ID)
    agents = (Agent(handle=f"bench-{number}", display_name=f"Bench {number}") for number in range(count))
    done = 0
    while part := list(islice(agents, 5_000)):
        Agent.objects.bulk_create(part)
        DepositAddress.objects.bulk_create(
            DepositAddress(
                agent=agent,
                chain_id=node.CHAIN_ID,
                factory=factory,
                salt=sha256(address_of(number)).digest(),
                address=address_of(number),
            )
            for number, agent in enumerate(part, start=done)
        )
        done += len(part)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def child(what: str, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "bench.scan", "--only", what, *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def environment(database_url: str, node_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "BAILEE_PROCESS": "worker",
        "DATABASE_URL": database_url,
        "CHAIN_RPC_URL": node_url,
        "CHAIN_ID": str(node.CHAIN_ID),
        "USDC_ADDRESS": "0x" + node.TOKEN.hex(),
        "DEPOSIT_FACTORY_ADDRESS": FACTORY,
        "CHAIN_START_BLOCK": str(START),
        "CHAIN_HEAD_MAX_AGE_SECONDS": "86400",
    }


def calls_of(node_url: str) -> dict[str, int]:
    from escrow.chain import rpc

    return dict(rpc.connect(node_url).ask("stub_calls"))


def compare(options: argparse.Namespace) -> None:
    made = f"bailee_scan_{os.getpid()}"
    paid = [address_of(number) for number in range(min(PAID, *options.addresses))]
    busy = {"blocks": options.blocks, "logs": options.logs, "ours": paid, "most": options.most}
    print(f"{options.blocks} blocks with {options.logs} transfers each, one of 100 to us:")
    print(" addresses    logs/s  seconds  CPU s  peak MB  (scan alone)  statements  deposits  calls of the node")
    with node.running(**busy) as url, database(f"{made}_empty") as empty:
        child("migrate", environment(empty, url))
        for count in options.addresses:
            with database(f"{made}_{count}", template=f"{made}_empty") as filled:
                known = environment(filled, url)
                child("fill", known, "--addresses", str(count))
                before = calls_of(url)
                found = json.loads(child("scan", known).splitlines()[-1])
                after = calls_of(url)
            logs = found["blocks"] * options.logs
            calls = {name.removeprefix("eth_"): after[name] - before.get(name, 0) for name in after if "eth" in name}
            print(
                f"{count:>10,}{logs / found['seconds']:>10,.0f}{found['seconds']:>9.1f}{found['cpu']:>7.1f}"
                f"{found['rss'] / 1024:>9.0f}{(found['rss'] - found['rss_before']) / 1024:>14.0f}"
                f"{found['statements']:>12,}{found['deposits']:>10,}  "
                + ", ".join(f"{name} {number}" for name, number in sorted(calls.items()))
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--addresses", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--logs", type=int, default=300, help="transfers in a block")
    parser.add_argument("--most", type=int, default=10_000, help="logs the node answers at once, 0: any number")
    parser.add_argument("--only", choices=["migrate", "fill", "scan"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "DATABASE_URL" not in os.environ:
        parser.error("DATABASE_URL names no server: `make up` tells of one")
    if options.only == "migrate":
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
    elif options.only == "fill":
        fill(options.addresses[0])
    elif options.only == "scan":
        print(json.dumps(measure()))
    else:
        compare(options)


if __name__ == "__main__":
    main()
