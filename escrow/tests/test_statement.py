import csv
import io
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection

from accounts import ids
from escrow import holds, ledger, statement
from escrow.ledger import Move

pytestmark = pytest.mark.django_db


@pytest.fixture
def job_id():
    return ids.uuid7()


@pytest.fixture
def worked(alice, bob, credit, job_id, noon):
    """Alice deposits 20, pays Bob 10 for a job, and stakes 3."""
    key = f"job:{job_id}"
    credit(alice, 20_000_000)
    holds.fund(key, client_id=alice.id, seller_id=bob.id, price_units=10_000_000, bond_units=0, at=noon)
    closing = holds.Closing(
        key=key,
        client_id=alice.id,
        seller_id=bob.id,
        price_units=10_000_000,
        bond_units=0,
        seller_units=10_000_000,
        fee_bps=100,
        bond_to="seller",
    )
    holds.close(closing, kind="job.approve", at=noon + timedelta(hours=1))
    moves = [Move("available", str(alice.id), -3_000_000), Move("stake", str(alice.id), 3_000_000)]
    ledger.post("stake:1", kind="stake.lock", moves=moves, at=noon + timedelta(hours=2))


class TestLines:
    def test_are_the_agents_own_newest_first(self, worked, alice, bob):
        own = statement.lines(alice.id, limit=10)

        assert [(line.account, line.amount_units, line.balance_after_units) for line in own] == [
            ("stake", 3_000_000, 3_000_000),
            ("available", -3_000_000, 7_000_000),
            ("available", -10_000_000, 10_000_000),
            ("available", 20_000_000, 20_000_000),
        ]
        assert [line.amount_units for line in statement.lines(bob.id, limit=10)] == [9_900_000]

    def test_go_on_before_an_entry(self, worked, alice):
        everything = statement.lines(alice.id, limit=10)

        assert statement.lines(alice.id, before=everything[1].id, limit=10) == everything[2:]

    def test_name_the_job(self, worked, bob, job_id):
        assert statement.lines(bob.id, limit=1)[0].job_id == str(job_id)

    def test_read_no_more_than_the_page_at_any_depth(self, alice, credit):
        for _ in range(60):
            credit(alice, 1)
        deep = statement.lines(alice.id, limit=50)[-1].id
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")

        with _explained() as plans:
            statement.lines(alice.id, before=deep, limit=5)

        assert "entry_statement" in plans[0]


class TestEverything:
    def test_reads_on_from_chunk_to_chunk(self, worked, alice, monkeypatch):
        monkeypatch.setattr(statement, "CHUNK", 3)

        assert list(statement.everything(alice.id)) == statement.lines(alice.id, limit=10)


class TestGetStatement:
    def test_shows_entries_as_the_contract_says(self, worked, bob, job_id, client_for):
        answer = client_for(bob).get("/wallet/statement").json()

        [line] = answer["data"]
        assert line.pop("id").isdigit()
        assert line == {
            "occurred_at": "2026-11-21T13:00:00Z",
            "kind": "job.approve",
            "amount": "9.900000",
            "balance_after": "9.900000",
            "account": "available",
            "reference": f"job:{job_id}:close",
            "job_id": str(job_id),
        }
        assert answer["next_cursor"] is None

    def test_pages_are_stable_while_money_moves(self, worked, alice, credit, client_for):
        api = client_for(alice)
        first = api.get("/wallet/statement", limit=3).json()
        credit(alice, 5)

        second = api.get("/wallet/statement", limit=3, cursor=first["next_cursor"]).json()

        amounts = [line["amount"] for line in first["data"] + second["data"]]
        assert amounts == ["3.000000", "-3.000000", "-10.000000", "20.000000"]
        assert second["next_cursor"] is None

    @pytest.mark.parametrize("query", [{"cursor": "x"}, {"cursor": "-1"}, {"cursor": "9" * 30}, {"limit": "0"}])
    def test_a_made_up_cursor_or_limit_is_refused(self, alice, client_for, query):
        answer = client_for(alice).get("/wallet/statement", **query)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(query))}"

    def test_streams_everything_as_csv(self, worked, alice, client_for):
        api = client_for(alice)

        answer = api.http.get("/v1/wallet/statement?limit=1", headers=api._headers() | {"Accept": "text/csv"})

        assert answer.streaming
        assert answer["Content-Type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
        assert [row["amount"] for row in rows] == ["3.000000", "-3.000000", "-10.000000", "20.000000"]
        assert list(rows[0]) == [
            *("id", "occurred_at", "kind", "amount", "balance_after", "account", "reference", "job_id")
        ]

    @pytest.mark.parametrize("accept", ["application/json", "*/*", "text/csv;q=0, application/json"])
    def test_is_json_for_who_does_not_ask_for_csv(self, worked, alice, client_for, accept):
        api = client_for(alice)

        answer = api.http.get("/v1/wallet/statement", headers=api._headers() | {"Accept": accept})

        assert len(answer.json()["data"]) == 4

    def test_shows_nobody_elses_entries(self, worked, make_agent, client_for):
        assert client_for(make_agent("carol")).get("/wallet/statement").json()["data"] == []


@contextmanager
def _explained():
    """Collect the plans of the queries that run inside."""
    plans = []

    def explain(execute, sql, params, many, context):
        with context["connection"].connection.cursor() as cursor:
            plans.append("\n".join(row[0] for row in cursor.execute(f"EXPLAIN {sql}", params)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield plans
