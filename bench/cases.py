"""
What the console's pages cost with many cases: statements and milliseconds of a page, read in this process.

    DATABASE_URL=postgres://… python -m bench.cases [--cases 100 10000] [--steps 200]

Makes one case by the verbs, copies it by SQL, and opens the pages as a senior moderator would. The databases are made
beside that of DATABASE_URL and dropped at the end.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bench.scan import database

AGENTS = 200
TURNS = 20


def child(what: str, database_url: str, *arguments: str) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "BAILEE_PROCESS": "worker",
        "DATABASE_URL": database_url,
        "LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "bench.cases", "--only", what, *arguments]
    subprocess.run(command, env=environment, check=True)


# --- the rows ---------------------------------------------------------------------------------------------------------
def fill(count: int, steps: int) -> None:
    """Make one case with a long time line, and copies of it in every state of the queue."""
    from django.db import connection

    from accounts import clock, staff
    from disputes.models import Dispute, DisputeTransition
    from marketplace.models import Job, Transition

    case = _one_case(clock.now() - timedelta(days=3))
    staff.prepare_groups()
    staff.prepare_account("bench", groups=["Senior moderators"])
    Transition.objects.bulk_create(
        Transition(job_id=case.job_id, revision=1_000 + number, action="start", by="seller", from_state="funded",
                   to_state="in_progress", note="again", occurred_at=case.created_at)
        for number in range(steps // 2)
    )  # fmt: skip
    DisputeTransition.objects.bulk_create(
        DisputeTransition(dispute=case, revision=1_000 + number, action="submit_evidence", by="client",
                          from_state="evidence", to_state="evidence", note="item", occurred_at=case.created_at)
        for number in range(steps - steps // 2)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE copies AS SELECT number, gen_random_uuid() AS job_id,"
                       " gen_random_uuid() AS case_id, number * interval '7 seconds' AS later"
                       " FROM generate_series(1, %s) AS number", [count])  # fmt: skip
        _copy(cursor, Job, case.job_id, {"id": "copies.job_id"})
        later = {
            name: f"origin.{name} + copies.later" for name in ("rule_by", "deadline_at", "hard_stop_at", "created_at")
        }
        _copy(cursor, Dispute, case.pk, {"id": "copies.case_id", "job_id": "copies.job_id", **later})
        cursor.execute("ANALYZE")


def _copy(cursor: Any, model: Any, original: Any, changes: dict[str, str]) -> None:
    columns = [field.column for field in model._meta.concrete_fields if not field.generated]
    values = [changes.get(column, f"origin.{column}") for column in columns]
    table = model._meta.db_table
    cursor.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)}"
        f" FROM {table} AS origin CROSS JOIN copies WHERE origin.id = %s",
        [original],
    )


def _one_case(noon: Any) -> Any:
    from accounts.models import Agent
    from disputes import cases, deadlines
    from escrow import ledger
    from escrow.ledger import Move
    from marketplace import deliveries, jobs, offers, terms

    said = "The summary covers three of the twelve chapters and the table of figures is missing altogether. " * 3
    client, seller = (Agent.objects.create(handle=name, display_name=name) for name in ("bench-ada", "bench-bruno"))
    moves = [Move("custody", "chain:1", -(10**9)), Move("available", str(client.pk), 10**9)]
    ledger.post("bench", kind="bench", moves=moves, at=noon)
    agreed = terms.read({"price": 50_000_000, "title": "Summaries", "delivery_seconds": 864_000})
    job = offers.propose(client, seller, terms=agreed, at=noon)
    offers.agree(job.id, by=seller, terms_hash=agreed.hash, at=noon)
    jobs.fund(job.id, client=client, at=noon)
    deliveries.deliver(job.id, seller=seller, content=deliveries.from_json({"chapters": [1, 2, 3]}), at=noon)
    case = cases.open(job.id, opener=client, reason="not_as_agreed", statement=said, requested_seller_bps=0, at=noon)
    cases.answer(case.id, by=seller, statement=said, requested_seller_bps=10_000, at=noon)
    return deadlines.enforce(case.id, at=noon + timedelta(days=2))


# --- the pages --------------------------------------------------------------------------------------------------------
def measure(count: int) -> None:
    """Open each page some times; print its statements and the middle of its times."""
    from django.test import Client
    from django.test.utils import setup_test_environment

    from disputes.models import Dispute

    setup_test_environment()
    browser = Client()
    _sign_in(browser)
    long_case = Dispute.objects.order_by("created_at").first()
    assert long_case is not None
    for name, path in (
        ("home", "/admin/"),
        ("queue", "/admin/cases/"),
        ("queue, every living case", "/admin/cases/?state=live"),
        ("case", f"/admin/cases/{long_case.pk}/"),
        ("agents", "/admin/agents/"),
        ("report", "/admin/report/"),
    ):
        statements, milliseconds = _opened(lambda path=path: browser.get(path))
        print(f"{count:>8,}  {name:<26}{statements:>11}{milliseconds:>10.0f}", flush=True)


def _opened(page: Callable[[], Any]) -> tuple[int, float]:
    from django.db import connection

    statements = 0

    def counted(execute: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal statements
        statements += 1
        return execute(*arguments)

    with connection.execute_wrapper(counted):
        answer = page()
    assert answer.status_code == 200, answer.status_code
    times = []
    for _ in range(TURNS):
        began = time.perf_counter()
        page()
        times.append((time.perf_counter() - began) * 1_000)
    return statements, statistics.median(times)


def _sign_in(browser: Any) -> None:
    """Begin a session as somebody who has shown both password and code."""
    from django_otp import DEVICE_ID_SESSION_KEY
    from django_otp.plugins.otp_totp.models import TOTPDevice

    from accounts.models import User

    user = User.objects.get(username="bench")
    device = TOTPDevice.objects.create(user=user, confirmed=True)
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    session = browser.session
    session[DEVICE_ID_SESSION_KEY] = device.persistent_id
    session.save()


def compare(options: argparse.Namespace) -> None:
    made = f"bailee_cases_{os.getpid()}"
    print(f"A case with {options.steps} lines on its time line, among so many:")
    print("   cases  page                       statements        ms")
    with database(f"{made}_empty") as empty:
        child("migrate", empty)
        for count in options.cases:
            with database(f"{made}_{count}", template=f"{made}_empty") as filled:
                arguments = ("--cases", str(count), "--steps", str(options.steps))
                child("fill", filled, *arguments)
                child("measure", filled, *arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--steps", type=int, default=200, help="lines of the time line of the case that is opened")
    parser.add_argument("--only", choices=["migrate", "fill", "measure"], help=argparse.SUPPRESS)
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
        fill(options.cases[0], options.steps)
    else:
        measure(options.cases[0])


if __name__ == "__main__":
    main()
