"""
What reading the event log costs among a million events of fourteen months.

    DATABASE_URL=postgres://… python -m bench.events [--events 1000000]

Makes a database beside that of DATABASE_URL, drops it at the end, prints a row for each way of reading. One agent with
a hundred thousand events asks, 900 others have the rest.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from bench.scan import database

ROOT = Path(__file__).resolve().parents[1]
OTHERS, OF_ONE, MONTHS, ROUNDS = 900, 100_000, 14, 50


def fill(events: int) -> None:
    """Spread the events over the months, the youngest last, twenty a transaction."""
    from django.db import connection

    from accounts import clock
    from accounts.events import retention
    from accounts.models import Agent

    now = clock.now()
    for month in range(MONTHS):
        retention.make_months(at=now - timedelta(days=30.4 * month))
    Agent.objects.bulk_create(
        Agent(handle=f"bench-{number}", handle_skeleton=f"bench-{number}", display_name="Bench")
        for number in range(OTHERS + 1)
    )
    with connection.cursor() as cursor:
        # Ids of transactions as a cluster that wrote all of this would have given; ours are younger.
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        step = max(20, -(-events // (cursor.fetchone()[0] - 100)))
        cursor.execute(
            """
            WITH agent AS (SELECT id, row_number() OVER (ORDER BY handle) - 1 AS position FROM accounts_agent)
            INSERT INTO accounts_event (xid, recipient_id, type, data, occurred_at, recorded_at)
            SELECT (3 + number / %(step)s)::text::xid8, agent.id,
                CASE WHEN number %% 1000 = 0 THEN 'job.failed' ELSE 'job.funded' END,
                jsonb_build_object('job_id', gen_random_uuid(), 'state', 'funded', 'revision', 3, 'sequence', number),
                at, at
            FROM generate_series(0, %(events)s - 1) AS number
            CROSS JOIN LATERAL (SELECT now() - interval '420 days' * (1 - number / %(events)s::float8)) AS moment(at)
            JOIN agent ON agent.position = CASE WHEN number %% %(share)s = 0 THEN 0 ELSE 1 + number %% %(others)s END
            """,
            {"events": events, "others": OTHERS, "share": max(1, events // OF_ONE), "step": step},
        )
        cursor.execute("VACUUM ANALYZE accounts_event")


def measure() -> None:
    """Print what each way of reading takes."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from accounts.events import feed
    from accounts.models import Agent, Event

    one = Agent.objects.get(handle="bench-0")
    mine = Event.objects.filter(recipient=one).order_by("id")
    end = mine.last()
    middle = mine[mine.count() // 2]
    ways = {
        "the oldest 100": {},
        "100 from the middle": {"after": feed.Cursor(middle.epoch, middle.xid, middle.id)},
        "nothing new": {"after": feed.Cursor(end.epoch, end.xid, end.id)},
        "100 of a type that is 1 of 1,000": {"types": ["job.failed"]},
        "a type that does not occur, from the oldest": {"types": ["job.proposed"]},
    }
    print("| read | events | ms | of which planning | blocks |")
    print("|---|---|---|---|---|")
    for name, asked in ways.items():
        taken = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            told = feed.read(one.pk, limit=100, **asked)
            taken.append((time.perf_counter() - begun) * 1_000)
        with CaptureQueriesContext(connection) as captured:
            feed.read(one.pk, limit=100, **asked)
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {captured[0]['sql']}")
            [plan] = cursor.fetchone()[0]
        print(
            f"| {name} | {len(told)} | {statistics.median(taken):.2f} | {plan['Planning Time']:.2f} |"
            f" {plan['Plan']['Shared Hit Blocks'] + plan['Plan']['Shared Read Blocks']} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        import django

        django.setup()
        fill(given.events)
        measure()
        return 0
    with database("bailee_bench_events") as url:
        environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}
        subprocess.run([sys.executable, ROOT / "manage.py", "migrate", "-v0"], env=environment, check=True)
        inside = [sys.executable, "-m", "bench.events", "--inside", "--events", str(given.events)]
        return subprocess.run(inside, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
