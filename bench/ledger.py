"""
What a post costs, and what N completions at once cost with one account for the fees and with sixteen.

    DATABASE_URL=postgres://… python bench/ledger.py [--workers 16] [--jobs 200] [--commit-ms 5]

Needs a migrated database that may be thrown away: the ledger keeps what is posted to it.
"""

import argparse
import os
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.db import connection, transaction  # noqa: E402

from accounts import clock, ids  # noqa: E402
from escrow import books, holds, ledger  # noqa: E402
from escrow.ledger import Move  # noqa: E402

PRICE, BOND, FEE_BPS = 1_000_000, 100_000, 100
# What a real completion still does between its post and its commit: time line, events, idempotency record.
STATEMENTS_AFTER = 3


def funded_job(at) -> holds.Closing:
    """Give a client and a seller money, fund a job of theirs, and say how it will close."""
    client_id, seller_id, key = ids.uuid7(), ids.uuid7(), f"job:{ids.uuid7()}"
    moves = [
        Move("custody", f"chain:{os.getpid()}", -(PRICE + BOND)),
        Move("available", str(client_id), PRICE),
        Move("available", str(seller_id), BOND),
    ]
    ledger.post(f"{key}:bench", kind="bench", moves=moves, at=at)
    holds.fund(key, client_id=client_id, seller_id=seller_id, price_units=PRICE, bond_units=BOND, at=at)
    return holds.Closing(
        key=key,
        client_id=client_id,
        seller_id=seller_id,
        price_units=PRICE,
        bond_units=BOND,
        seller_units=PRICE,
        fee_bps=FEE_BPS,
        bond_to="seller",
    )


def complete(closing: holds.Closing, at, commit_seconds: float) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        holds.close(closing, kind="job.approve", at=at)
        for _ in range(STATEMENTS_AFTER):
            clock.now()
        if commit_seconds:
            cursor.execute("SELECT pg_sleep(%s)", [commit_seconds])


def at_once(workers: int, shards: int, jobs: int, commit_seconds: float) -> tuple[float, float, float]:
    """Let N threads complete their jobs at the same time: (completions/s, median ms, p95 ms)."""
    ledger.FEE_SHARDS = shards
    at = clock.now()
    closings = [[funded_job(at) for _ in range(jobs)] for _ in range(workers)]
    barrier, durations = threading.Barrier(workers + 1), []

    def work(own: list[holds.Closing]) -> None:
        connection.ensure_connection()
        barrier.wait()
        for closing in own:
            begun = time.perf_counter()
            complete(closing, at, commit_seconds)
            durations.append(time.perf_counter() - begun)
        connection.close()

    threads = [threading.Thread(target=work, args=(own,)) for own in closings]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begun
    durations.sort()
    return len(durations) / elapsed, statistics.median(durations) * 1e3, durations[int(len(durations) * 0.95)] * 1e3


def one_post(jobs: int) -> dict[str, float]:
    """Complete jobs one after another: ms a post as Python sees it, and as PostgreSQL's own counters do."""
    at = clock.now()
    closings = [funded_job(at) for _ in range(jobs)]
    with connection.cursor() as cursor:
        cursor.execute("SET track_functions = 'all'")
        cursor.execute("SELECT pg_stat_reset()")
    begun = time.perf_counter()
    for closing in closings:
        holds.close(closing, kind="job.approve", at=at)
    seen = (time.perf_counter() - begun) / jobs * 1e3
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT funcname, total_time / %s FROM pg_stat_user_functions"
            " WHERE funcname IN ('ledger_post', 'ledger_transfer_guard')",
            [jobs],
        )
        return {"python, with its commit": seen, **dict(cursor.fetchall())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=200, help="completions of each worker")
    parser.add_argument("--commit-ms", type=float, default=5, help="what a disk or a replica adds to a commit")
    options = parser.parse_args()

    print("one completion (4 moves) at a time, ms each:")
    one_post(50)  # plans and pages warm
    for name, milliseconds in one_post(1_000).items():
        print(f"  {name:<26}{milliseconds:8.3f}")
    print(f"{options.workers} threads at once, {options.jobs} completions each:")
    print("  commit adds   fee accounts   completions/s   median ms   p95 ms")
    for commit_ms in (0.0, options.commit_ms):
        for shards in (1, 16):
            rate, median, p95 = at_once(options.workers, shards, options.jobs, commit_ms / 1e3)
            print(f"  {commit_ms:>8.0f} ms{shards:>15}{rate:>16.0f}{median:>12.2f}{p95:>9.2f}")
    begun = time.perf_counter()
    mismatches = books.check(full=True)
    entries = ledger_size()
    print(f"books over {entries} entries: {len(mismatches)} wrong, {time.perf_counter() - begun:.2f} s")


def ledger_size() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM escrow_entry")
        return cursor.fetchone()[0]


if __name__ == "__main__":
    main()
