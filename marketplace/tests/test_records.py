import pytest
from django.db import connection

from accounts.tests.http import ApiClient
from marketplace import deadlines, deliveries, jobs, records, settlements
from marketplace.tests.trades import PRICE, REASON, WORK, Trade

pytestmark = pytest.mark.django_db


class TestOfAgent:
    def test_counts_completed_jobs_of_either_side(self, trade, alice, bob, carol):
        trade.job("completed")
        trade.job("completed")
        for state in ("delivered", "cancelled", "expired", "failed", "resolved"):
            trade.job(state)

        assert [records.of_agent(agent.id)["completed"] for agent in (alice, bob, carol)] == [2, 2, 0]

    def test_is_part_of_the_public_profile(self, trade, bob):
        trade.job("completed")

        reputation = ApiClient().get("/agents/bob").json()["reputation"]

        assert (reputation["completed"], reputation["silent_approvals"]) == (1, 0)
        assert reputation["median_review_seconds"] is None

    def test_counts_what_the_clients_silence_approved(self, trade, alice, bob):
        trade.job("completed")
        silent = trade.job("delivered")
        deadlines.enforce(silent.id, at=silent.review_by)

        assert records.of_agent(alice.id)["silent_approvals"] == 1
        assert records.of_agent(bob.id)["silent_approvals"] == 0

    def test_takes_the_median_of_what_the_client_answered(self, trade, alice, bob):
        approved, revised, disputed = (trade.job("delivered") for _ in range(3))
        jobs.approve(approved.id, client=alice, at=trade.later(100))
        deliveries.request_revision(revised.id, client=alice, reason=REASON, at=trade.later(700))
        trade.freeze(disputed, at=trade.later(400))

        assert records.of_agent(alice.id)["median_review_seconds"] == 400
        assert records.of_agent(bob.id)["median_review_seconds"] is None

    def test_counts_each_delivery_to_the_next_step_alone(self, trade, alice, bob):
        job = trade.job("delivered")
        deliveries.request_revision(job.id, client=alice, reason=REASON, at=trade.later(100))
        deliveries.deliver(job.id, seller=bob, content=WORK, at=trade.later(1_000))
        jobs.approve(job.id, client=alice, at=trade.later(1_300))

        assert records.of_agent(alice.id)["median_review_seconds"] == 200

    def test_takes_silence_and_the_sellers_steps_for_no_answer(self, trade, alice):
        silent, settled = trade.job("delivered"), trade.job("delivered")
        deadlines.enforce(silent.id, at=silent.review_by)
        settlements.offer(settled.id, by=trade.client, seller_bps=5_000, at=trade.later(10))
        settlements.offer(settled.id, by=trade.seller, seller_bps=5_000, at=trade.later(20))

        assert records.of_agent(alice.id)["median_review_seconds"] is None

    def test_looks_at_the_latest_jobs_alone(self, trade, alice, monkeypatch):
        monkeypatch.setattr(records, "REVIEWED_JOBS", 2)
        for seconds in (5_000, 100, 300):
            jobs.approve(trade.job("delivered").id, client=alice, at=trade.later(seconds))

        assert records.of_agent(alice.id)["median_review_seconds"] == 200


class TestOfMany:
    def test_answers_for_every_agent_in_one_statement(self, trade, alice, bob, carol, django_assert_num_queries):
        trade.job("completed")

        with django_assert_num_queries(1):
            found = records.of_many([alice.id, bob.id, carol.id])

        assert found == {agent.id: records.of_agent(agent.id) for agent in (alice, bob, carol)}

    def test_answers_for_nobody(self):
        assert records.of_many([]) == {}

    def test_reads_no_table_from_end_to_end(self, trade, alice):
        """Whatever the planner would do with a small table: every part has an index that leads to the agent."""
        trade.job("completed")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN " + records._OF_MANY, [records.REVIEWED_JOBS, [alice.id]])
            plan = "\n".join(row[0] for row in cursor.fetchall())

        assert "Seq Scan" not in plan


class TestInUse:
    @pytest.mark.parametrize(
        ("state", "client", "seller"),
        [
            ("negotiating", 1, 0),
            ("agreed", 1, 1),
            ("funded", 1, 1),
            ("in_progress", 1, 1),
            ("delivered", 1, 1),
            ("revising", 1, 1),
            ("disputed", 1, 1),
            ("completed", 0, 0),
            ("cancelled", 0, 0),
            ("expired", 0, 0),
            ("failed", 0, 0),
            ("resolved", 0, 0),
        ],
    )
    def test_counts_a_clients_from_negotiating_and_a_sellers_from_agreed(self, trade, state, client, seller):
        trade.job(state)

        assert records.in_use(trade.client.id)["open_jobs"] == client
        assert records.in_use(trade.seller.id)["open_jobs"] == seller

    def test_adds_up_what_they_are_worth_on_both_sides(self, trade, carol):
        trade.job("funded")
        trade.job("delivered")
        Trade(carol, trade.client, trade.at).job("agreed", price="20")

        assert 2 * PRICE == 24_691_356
        assert records.in_use(trade.client.id) == {"open_jobs": 3, "open_value": "44.691356"}

    def test_is_shown_to_the_agent_itself(self, trade, client_for):
        trade.job("funded")

        assert client_for(trade.client).get("/me/limits").json()["used"] == {"open_jobs": 1, "open_value": "12.345678"}
