import pytest

from accounts import challenges, departures, limits, seams
from accounts.models import Agent, AgentKey, Challenge, Event
from accounts.tests.signers import Signer

pytestmark = pytest.mark.django_db


@pytest.fixture
def signer(alice):
    signer = Signer()
    AgentKey.objects.create(agent=alice, public_key=signer.raw)
    return signer


@pytest.fixture
def business(monkeypatch):
    """Stand in the place of the apps above: note who ends what, and fail for the agents in `.broken`."""

    class Business(list):
        broken: set = set()

        def end(self, agent_id, at):
            self.append(agent_id)
            if agent_id in self.broken:
                raise RuntimeError("the database went away")

    business = Business()
    registry = seams.Registry()
    registry.register(business.end)
    monkeypatch.setattr(seams, "leaving", registry)
    return business


def begin(agent, signer, at):
    challenge = challenges.issue(purpose="confirm", public_key=signer.raw, at=at)
    return departures.begin(agent.pk, challenge_id=challenge.pk, signature=signer.sign(challenge.message), at=at)


class TestBegin:
    def test_ends_new_business_at_once(self, alice, signer, client_for):
        client = client_for(alice)

        answer = client.post("/me/deactivation", signer.answered("confirm"))

        assert (answer.status_code, answer.json()["status"]) == (200, "leaving")
        alice.refresh_from_db()
        with pytest.raises(limits.AgentNotActive):
            limits.require_active(alice)
        assert client.patch("/me", {"description": "x"}).json()["code"] == "scope_missing"
        assert client.get("/me").status_code == 200

    @pytest.mark.parametrize("purpose", ["sign_in", "register", "wallet"])
    def test_needs_a_challenge_for_this_purpose(self, alice, signer, client_for, purpose):
        answer = client_for(alice).post("/me/deactivation", signer.answered(purpose))

        assert answer.json()["code"] == "challenge_unknown"
        alice.refresh_from_db()
        assert alice.status == "active"

    def test_needs_a_signature_of_one_of_the_agents_keys(self, alice, signer, client_for):
        challenge = signer.ask("confirm")
        body = {"challenge_id": challenge["challenge_id"], "signature": Signer().sign_text(challenge["message"])}

        answer = client_for(alice).post("/me/deactivation", body)

        assert answer.json()["code"] == "signature_invalid"

    def test_is_done_once(self, alice, signer, noon):
        begin(alice, signer, noon)

        with pytest.raises(limits.AgentNotActive):
            begin(alice, signer, noon)

    def test_is_open_to_a_suspended_agent(self, alice, signer, noon):
        Agent.objects.filter(pk=alice.pk).update(status="suspended")

        assert begin(alice, signer, noon).status == "leaving"

    def test_needs_the_scope(self, alice, signer, client_for):
        answer = client_for(alice, ["jobs:write"]).post("/me/deactivation", signer.answered("confirm"))

        assert answer.json()["code"] == "scope_missing"


class TestFinish:
    def test_ends_business_and_then_deactivates(self, alice, signer, business, noon):
        begin(alice, signer, noon)

        departures.finish(alice.pk, at=noon)

        alice.refresh_from_db()
        assert alice.status == "deactivated"
        assert business == [alice.pk]
        assert Event.objects.get(type="agent.deactivated").recipient == alice

    def test_leaves_the_agent_leaving_when_business_cannot_be_ended(self, alice, signer, business, noon):
        begin(alice, signer, noon)
        business.broken = {alice.pk}

        with pytest.raises(RuntimeError):
            departures.finish(alice.pk, at=noon)

        alice.refresh_from_db()
        assert alice.status == "leaving"

    def test_is_safe_to_run_twice(self, alice, signer, business, noon):
        begin(alice, signer, noon)

        departures.finish(alice.pk, at=noon)
        departures.finish(alice.pk, at=noon)

        assert Event.objects.filter(type="agent.deactivated").count() == 1

    def test_leaves_the_agent_a_way_to_its_money(self, alice, signer, business, noon):
        begin(alice, signer, noon)
        departures.finish(alice.pk, at=noon)

        answer = signer.sign_in()

        assert set(answer.json()["scopes"]) == {"wallet:read", "jobs:read", "withdrawals:write", "disputes:write"}


class TestFinishAll:
    def test_is_not_held_up_by_one_that_fails(self, alice, bob, carol, business, noon):
        Agent.objects.filter(pk__in=[alice.pk, bob.pk]).update(status="leaving")
        business.broken = {alice.pk}

        departures.finish_all(at=noon)

        statuses = dict(Agent.objects.values_list("handle", "status"))
        assert statuses == {"alice": "leaving", "bob": "deactivated", "carol": "active"}


class TestAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_one_of_eight_beginnings_is_done(self, race, alice, signer, noon):
        outcomes = race(*[lambda: begin(alice, signer, noon)] * 8)

        assert sum(isinstance(outcome, Agent) for outcome in outcomes) == 1
        assert Challenge.objects.filter(spent_at__isnull=False).count() == 1

    def test_eight_sweeps_tell_the_agent_once(self, race, alice, business, noon):
        Agent.objects.filter(pk=alice.pk).update(status="leaving")

        race(*[lambda: departures.finish_all(at=noon)] * 8)

        assert Event.objects.filter(type="agent.deactivated").count() == 1
