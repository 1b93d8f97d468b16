"""
What a complete job costs: SQL statements in all, and one commit a call (docs/performance.md).

`python -m pytest marketplace/tests/test_statements.py -s` prints the table.
"""

import json
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketplace.tests.trades import TERMS

MOST = 70
_CONTROL = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK TO|BEGIN|COMMIT)", re.IGNORECASE)


@pytest.fixture
def costs(trade, client_for):
    """Play a complete job over HTTP, every call with an Idempotency-Key: call → (statements, BEGINs, COMMITs)."""
    client, seller = client_for(trade.client), client_for(trade.seller)
    counted = {}

    def call(name, agent, path, body=None):
        with CaptureQueriesContext(connection) as queries:
            answer = agent.post(path, body, key="new")
        assert answer.status_code in (200, 201), answer.content
        sent = [query["sql"] for query in queries.captured_queries]
        counted[name] = (
            sum(not _CONTROL.match(sql) for sql in sent),
            sum(sql.upper().startswith("BEGIN") for sql in sent),
            sum(sql.upper().startswith("COMMIT") for sql in sent),
        )
        return json.loads(answer.content)

    job = call("propose", client, "/jobs", {"seller": "bob", "terms": TERMS})
    path = f"/jobs/{job['id']}"
    job = call("counter", seller, f"{path}/offers", {"terms": TERMS | {"price": "13"}})
    call("agree", client, f"{path}/agreement", {"terms_hash": job["offer"]["terms_hash"]})
    call("fund", client, f"{path}/funding")
    call("start", seller, f"{path}/start")
    call("deliver", seller, f"{path}/deliveries", {"content": {"text": "Guten Tag"}})
    job = call("approve", client, f"{path}/approval")
    assert job["state"] == "completed"
    return counted


def table(counted):
    """Write the figures as docs/performance.md has them."""
    lines = ["| call | statements | commits |", "|---|---|---|"]
    lines += [f"| {name} | {statements} | {commits} |" for name, (statements, _, commits) in counted.items()]
    return "\n".join([*lines, f"| **a complete job** | **{sum(row[0] for row in counted.values())}** | **7** |"])


@pytest.mark.django_db(transaction=True)
class TestCompleteJob:
    def test_costs_at_most_seventy_statements(self, costs, capsys):
        with capsys.disabled():
            print(f"\n{table(costs)}")  # noqa: T201 (this is the command that docs/performance.md names)

        assert sum(statements for statements, _, _ in costs.values()) <= MOST

    def test_commits_once_a_call(self, costs):
        assert {name: (begins, commits) for name, (_, begins, commits) in costs.items()} == dict.fromkeys(
            ["propose", "counter", "agree", "fund", "start", "deliver", "approve"], (1, 1)
        )

    def test_costs_what_the_documentation_says(self, costs):
        documented = Path(settings.BASE_DIR, "docs", "performance.md").read_text()

        assert table(costs) in documented
