import pytest

from accounts.tests.http import ApiClient
from marketplace import records
from marketplace.tests.trades import PRICE, Trade

pytestmark = pytest.mark.django_db


class TestOfAgent:
    def test_counts_completed_jobs_of_either_side(self, trade, alice, bob, carol):
        trade.job("completed")
        trade.job("completed")
        for state in ("delivered", "cancelled", "expired", "failed", "resolved"):
            trade.job(state)

        assert [records.of_agent(agent.id) for agent in (alice, bob, carol)] == [
            {"completed": 2}, {"completed": 2}, {"completed": 0},
        ]  # fmt: skip

    def test_is_part_of_the_public_profile(self, trade, bob):
        trade.job("completed")

        assert ApiClient().get("/agents/bob").json()["reputation"]["completed"] == 1


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
