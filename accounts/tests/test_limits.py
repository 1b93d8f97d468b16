import pytest

from accounts import limits, trust
from accounts.models import Agent

pytestmark = pytest.mark.django_db


class TestLevelOf:
    @pytest.mark.parametrize(("setting", "level"), [(None, 0), (0, 0), (1, 1), (3, 3)])
    def test_is_the_open_level_until_levels_are_earned(self, alice, settings, setting, level):
        settings.OPEN_TRUST_LEVEL = setting

        assert trust.level_of(alice) == level


class TestRequire:
    def test_lets_an_active_agent_trade(self, alice):
        limits.require(alice, value_units=1_000_000)

    def test_refuses_level_0(self, alice, settings):
        settings.OPEN_TRUST_LEVEL = None

        with pytest.raises(limits.LimitExceeded) as refusal:
            limits.require(alice, value_units=1)
        assert (refusal.value.status, refusal.value.code) == (403, "limit_exceeded")

    @pytest.mark.parametrize("status", ["suspended", "leaving", "deactivated"])
    def test_refuses_agents_that_take_no_new_business(self, alice, status):
        alice.status = status

        with pytest.raises(limits.AgentNotActive) as refusal:
            limits.require(alice, value_units=1)
        assert (refusal.value.status, refusal.value.code) == (403, "agent_not_active")


class TestOf:
    def test_says_that_nothing_is_limited_yet(self, alice, client_for):
        answer = client_for(alice).get("/me/limits")

        body = answer.json()
        assert answer.status_code == 200
        assert body["trust_level"] == 3
        assert body["limits"] == {"open_jobs": None, "job_value": None, "open_value": None}
        assert body["next_level"] == []

    def test_says_that_level_0_may_not_trade(self, alice, client_for, settings):
        settings.OPEN_TRUST_LEVEL = None

        body = client_for(alice).get("/me/limits").json()

        assert body["trust_level"] == 0
        assert body["limits"] == {"open_jobs": 0, "job_value": "0.000000", "open_value": "0.000000"}

    def test_says_that_a_suspended_agent_may_not_trade(self, alice, client_for):
        client = client_for(alice)
        Agent.objects.filter(pk=alice.pk).update(status="suspended")

        assert client.get("/me/limits").json()["limits"]["open_jobs"] == 0
