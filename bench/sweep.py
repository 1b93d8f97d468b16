"""
What a sweep costs: so many jobs that are due among so many that will be later.

    DATABASE_URL=postgres://… python -m bench.sweep [--due 1000] [--later 100000] [--processes 1 4] [--profile]

Each kind of step (an approval by silence, which pays; an offer that lapses; a reminder) is swept to its end by one
process and by several at once, over the same rows each time. The databases are made beside that of DATABASE_URL and
dropped at the end.
"""

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

from bench.cases import _copy
from bench.scan import database

PAIRS = 50
KINDS = ("approve", "lapse", "remind")


def child(what: str, database_url: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "BAILEE_PROCESS": "worker",
        "DATABASE_URL": database_url,
        "LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "bench.sweep", "--only", what, *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{process.args} ended with {process.returncode}")
    return said


# --- the rows ---------------------------------------------------------------------------------------------------------
def fill(kind: str, due: int, later: int) -> None:
    """Bring `due` jobs there by the verbs, long ago, and copy one that is due much later by SQL."""
    from django.db import connection

    from accounts import clock
    from accounts.models import Agent
    from escrow import ledger
    from escrow.ledger import Move
    from marketplace.models import Job, Offer

    now = clock.now()
    long_ago = now - timedelta(days=30)
    agents = [Agent.objects.create(handle=f"bench-{number}", display_name="Bench") for number in range(2 * PAIRS)]
    for agent in agents:
        moves = [Move("custody", "chain:1", -(10**9)), Move("available", str(agent.pk), 10**9)]
        ledger.post(f"bench:{agent.pk}", kind="bench", moves=moves, at=long_ago)
    pairs = list(zip(agents[::2], agents[1::2], strict=True))
    for number in range(due):
        _bring(kind, *pairs[number % PAIRS], now if kind == "remind" else long_ago + timedelta(seconds=number))
    waiting = _bring("lapse", *pairs[0], now)
    with connection.cursor() as cursor:
        if kind == "remind":
            cursor.execute("UPDATE marketplace_job SET near_at = deadline_from WHERE id <> %s", [waiting.pk])
        cursor.execute("UPDATE marketplace_job SET near_at = near_at + interval '30 days',"
                       " deadline_at = deadline_at + interval '30 days' WHERE id = %s", [waiting.pk])  # fmt: skip
        cursor.execute("CREATE TEMPORARY TABLE copies AS SELECT gen_random_uuid() AS job_id,"
                       " gen_random_uuid() AS offer_id, number * interval '1 second' AS later"
                       " FROM generate_series(1, %s) AS number", [later])  # fmt: skip
        clocks = {name: f"origin.{name} + copies.later" for name in ("near_at", "deadline_at")}
        _copy(cursor, Job, waiting.pk, {"id": "copies.job_id", **clocks})
        _copy(cursor, Offer, waiting.offer.pk, {"id": "copies.offer_id", "job_id": "copies.job_id"})
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _bring(kind: str, client: Any, seller: Any, at: Any) -> Any:
    from marketplace import deliveries, jobs, offers, terms

    agreed = terms.read({"price": 1_000_000, "seller_bond": 100_000, "title": "Summary", "delivery_seconds": 86_400})
    job = offers.propose(client, seller, terms=agreed, at=at)
    if kind == "approve":
        offers.agree(job.id, by=seller, terms_hash=agreed.hash, at=at)
        jobs.fund(job.id, client=client, at=at)
        deliveries.deliver(job.id, seller=seller, content=deliveries.from_json({"text": "Done."}), at=at)
    return job


# --- the sweep --------------------------------------------------------------------------------------------------------
def measure(profile: bool) -> None:
    """Sweep until nothing is due, each sweep as long as it takes; say what it cost. Begins when told to."""
    from django.db import connection

    from accounts import sweeps
    from marketplace import deadlines

    sweeps.SECONDS = 3_600.0
    statements = 0

    def counted(execute: Any, *arguments: Any) -> Any:
        nonlocal statements
        statements += 1
        return execute(*arguments)

    sweeps.run(deadlines.SWEEP, limit=0)  # the connection is there before the clock runs
    print("ready", flush=True)
    sys.stdin.readline()
    profiler = cProfile.Profile()
    began, cpu = time.time(), time.process_time()
    with connection.execute_wrapper(counted):
        if profile:
            done = profiler.runcall(deadlines.enforce_due, limit=10**6)
        else:
            done = deadlines.enforce_due(limit=10**6)
    said = {"done": done, "began": began, "ended": time.time(), "cpu": time.process_time() - cpu}
    print(json.dumps(said | {"statements": statements}), flush=True)
    if profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(30)


def explain() -> None:
    """Print how PostgreSQL finds the next row, as `sweeps` asks for it."""
    from django.db import connection, transaction

    from accounts import sweeps
    from marketplace import deadlines

    with transaction.atomic(), connection.execute_wrapper(_explained):
        sweeps.claim(deadlines.SWEEP)


def _explained(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    answer = execute(f"EXPLAIN (ANALYZE, BUFFERS OFF) {sql}", params, many, context)
    print("\n".join(line for (line,) in context["cursor"].fetchall()))
    execute(sql, params, many, context)
    return answer


def compare(options: argparse.Namespace) -> None:
    made = f"bailee_sweep_{os.getpid()}"
    print(f"{options.due:,} due among {options.later:,} later:")
    print("step      processes   seconds   jobs/s   CPU ms/job   statements/job   done by each", flush=True)
    with database(f"{made}_empty") as empty:
        finish(child("migrate", empty))
        for kind in options.kinds:
            with database(f"{made}_{kind}", template=f"{made}_empty") as filled:
                finish(child("fill", filled, "--due", str(options.due), "--later", str(options.later), "--kinds", kind))
                for processes in options.processes:
                    with database(f"{made}_{kind}_{processes}", template=f"{made}_{kind}") as used:
                        _measured(kind, processes, used, options)
                if options.explain:
                    print(finish(child("explain", filled)), flush=True)


def _measured(kind: str, processes: int, database_url: str, options: argparse.Namespace) -> None:
    arguments = ["--profile"] if options.profile else []
    children = [child("measure", database_url, *arguments) for _ in range(processes)]
    for process in children:
        assert process.stdout is not None
        process.stdout.readline()
    for process in children:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [json.loads(finish(process)) for process in children]
    done = sum(one["done"] for one in said)
    assert done == options.due, said
    seconds = max(one["ended"] for one in said) - min(one["began"] for one in said)
    cpu, statements = sum(one["cpu"] for one in said), sum(one["statements"] for one in said)
    print(f"{kind:<10}{processes:>9}{seconds:>10.2f}{done / seconds:>9.0f}{cpu / done * 1_000:>13.2f}"
          f"{statements / done:>17.2f}   {' '.join(str(one['done']) for one in said)}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--due", type=int, default=1_000)
    parser.add_argument("--later", type=int, default=100_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--profile", action="store_true", help="print where Python's time goes")
    parser.add_argument("--explain", action="store_true", help="print how the next row is found")
    parser.add_argument("--only", choices=["migrate", "fill", "measure", "explain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "DATABASE_URL" not in os.environ:
        parser.error("DATABASE_URL names no server: `make up` tells of one")
    if not options.only:
        compare(options)
        return
    import django
    from django.core.management import call_command

    django.setup()
    if options.only == "migrate":
        call_command("migrate", verbosity=0)
    elif options.only == "fill":
        fill(options.kinds[0], options.due, options.later)
    elif options.only == "measure":
        measure(options.profile)
    else:
        explain()


if __name__ == "__main__":
    main()
