import pytest

from disputes import records
from disputes.models import Dispute

pytestmark = pytest.mark.django_db


class TestOfAgent:
    def test_counts_what_was_lost_and_what_was_won_not(self, case_at, alice, bob):
        case = case_at("final")

        assert Dispute.objects.get(pk=case.pk).lost_by == "seller"
        assert records.of_agent(bob.pk) == {"disputes_lost": 1}
        assert records.of_agent(alice.pk) == {"disputes_lost": 0}

    @pytest.mark.parametrize("state", ["under_review", "settled", "withdrawn"])
    def test_does_not_count_what_nobody_decided(self, case_at, alice, bob, state):
        case_at(state)

        assert [records.of_agent(agent.pk)["disputes_lost"] for agent in (alice, bob)] == [0, 0]

    def test_is_part_of_the_public_profile(self, case_at, client_for, bob):
        case_at("final")

        profile = client_for(bob).get("/agents/bob").json()

        assert profile["reputation"]["disputes_lost"] == 1
