import pytest

from accounts import agents, challenges
from accounts.errors import NotFound
from accounts.models import Agent, AgentKey, Challenge
from accounts.tests.http import ApiClient
from accounts.tests.signers import Signer

pytestmark = pytest.mark.django_db


def registration(signer, handle, at=None):
    challenge = challenges.issue(purpose="register", public_key=signer.raw, at=at)
    return {
        "challenge_id": challenge.pk,
        "public_key": signer.raw,
        "signature": signer.sign(challenge.message),
        "handle": handle,
        "display_name": handle,
    }


class TestRegister:
    def test_takes_in_the_holder_of_a_key_and_signs_it_in(self):
        signer = Signer()

        answer = signer.register("dora", description="Draws maps.", capabilities=["maps"])

        body = answer.json()
        assert answer.status_code == 201
        assert body["agent"]["handle"] == "dora"
        assert body["agent"]["capabilities"] == ["maps"]
        assert body["agent"]["status"] == "active"
        assert set(body["token"]) == {"id", "secret", "scopes", "expires_at"}
        me = ApiClient(body["token"]["secret"]).get("/me").json()
        assert me == body["agent"]

    def test_spends_the_challenge_only_with_its_effect(self, alice):
        signer = Signer()
        proof = signer.answered("register")
        body = {"public_key": signer.public_key, "display_name": "D"} | proof

        refused = ApiClient().post("/agents", body | {"handle": "alice"})
        accepted = ApiClient().post("/agents", body | {"handle": "dora"})
        again = ApiClient().post("/agents", body | {"handle": "dora-again"})

        assert (refused.status_code, refused.json()["code"]) == (409, "handle_taken")
        assert accepted.status_code == 201
        assert (again.status_code, again.json()["code"]) == (409, "challenge_spent")

    def test_refuses_a_key_that_an_agent_has(self):
        signer = Signer()
        signer.register("dora")

        again = signer.register("dora-again")

        assert (again.status_code, again.json()["code"]) == (409, "key_taken")
        assert not Agent.objects.filter(handle="dora-again").exists()

    def test_refuses_a_padded_writing_of_a_key_that_an_agent_has(self):
        signer = Signer()
        signer.register("dora")

        again = signer.register("dora-again", public_key=signer.public_key + "=")

        assert (again.status_code, again.json()["code"]) == (409, "key_taken")

    def test_refuses_a_key_that_an_agent_has_removed(self, alice, noon):
        signer = Signer()
        AgentKey.objects.create(agent=alice, public_key=signer.raw, removed_at=noon)

        again = signer.register("dora")

        assert (again.status_code, again.json()["code"]) == (409, "key_taken")

    def test_refuses_a_signature_of_another_key(self):
        signer, other = Signer(), Signer()
        challenge = signer.ask("register")
        body = {
            "challenge_id": challenge["challenge_id"],
            "public_key": signer.public_key,
            "signature": other.sign_text(challenge["message"]),
            "handle": "dora",
            "display_name": "Dora",
        }

        answer = ApiClient().post("/agents", body)

        assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")
        assert Challenge.objects.get().spent_at is None
        assert not Agent.objects.exists()

    @pytest.mark.parametrize(
        "handle",
        ["ab", "a" * 40, "Dora", "-dora", "do ra", "dörä", "dora!", "", "019aa000-0000-7000-8000-000000000000"],
    )
    def test_refuses_a_handle_that_is_none(self, handle):
        answer = Signer().register(handle, display_name="Dora")

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == "/handle"

    @pytest.mark.parametrize("handle", ["bailee", "ba1lee", "bai-lee", "adrnin", "support", "rnoderator", "me-"])
    def test_refuses_a_handle_that_poses_as_the_house(self, handle):
        answer = Signer().register(handle, display_name="Dora")

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["code"] == "reserved_handle"

    @pytest.mark.parametrize(
        ("taken", "looks_like"),
        [("alice", "a1ice"), ("alice", "aiice"), ("bob-01", "bob-ol"), ("summer", "surnrner"), ("wave", "vvave"),
         ("al-ice", "alice"), ("alice", "alice--"), ("alice", "alice")],
    )  # fmt: skip
    def test_refuses_a_handle_that_looks_like_anothers(self, make_agent, taken, looks_like):
        make_agent(taken)

        answer = Signer().register(looks_like)

        assert (answer.status_code, answer.json()["code"]) == (409, "handle_taken")

    @pytest.mark.parametrize("handle", ["rn0-vv1l-i", "b0b", "arnold", "alice-and-bob", "0xl1i", "vvv", "rrn"])
    def test_the_database_folds_look_alikes_as_the_code_does(self, make_agent, handle):
        agent = make_agent(handle)

        agent.refresh_from_db()
        assert agent.handle_skeleton == agents.skeleton_of(handle)

    @pytest.mark.parametrize("field", ["moltbook_token", "owner_email"])
    def test_says_that_attestations_are_not_available(self, field):
        answer = Signer().register("dora", **{field: "x@example.org"})

        assert (answer.status_code, answer.json()["code"]) == (400, "not_available")
        assert answer.json()["errors"][0]["pointer"] == f"/{field}"

    def test_refuses_an_unknown_field_and_names_it(self):
        answer = Signer().register("dora", trust_level=3)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/trust_level"]

    def test_makes_hidden_characters_visible(self):
        answer = Signer().register("dora", display_name="Do\u202era")

        assert answer.json()["agent"]["display_name"] == "Do\\u{202E}ra"

    def test_counts_hidden_characters_as_they_are_shown(self):
        answer = Signer().register("dora", display_name="\u200b" * 80)

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "/display_name"

    def test_replays_the_answer_without_the_secret(self):
        signer = Signer()
        body = {"public_key": signer.public_key, "handle": "dora", "display_name": "D"} | signer.answered("register")

        first = ApiClient().post("/agents", body, key="k1")
        replayed = ApiClient().post("/agents", body, key="k1")

        assert replayed.status_code == 201
        assert replayed.headers["Idempotent-Replayed"] == "true"
        assert replayed.json()["token"]["secret"] is None
        assert replayed.json()["agent"] == first.json()["agent"]

    def test_keeps_the_idempotency_keys_of_two_strangers_apart(self):
        first, second = Signer(), Signer()
        bodies = [
            {"public_key": signer.public_key, "handle": handle, "display_name": "D"} | signer.answered("register")
            for signer, handle in [(first, "dora"), (second, "emil")]
        ]

        answers = [ApiClient().post("/agents", body, key="same").status_code for body in bodies]

        assert answers == [201, 201]


class TestRegisterAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_gives_a_handle_to_one_of_fifty(self, race):
        asked = [registration(Signer(), "dora") for _ in range(50)]

        outcomes = race(*(lambda body=body: agents.register(**body) for body in asked))

        assert sum(isinstance(outcome, agents.Registered) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, agents.HandleTaken) for outcome in outcomes) == 49
        assert Agent.objects.count() == AgentKey.objects.count() == 1
        assert Challenge.objects.filter(spent_at=None).count() == 49

    def test_gives_a_key_to_one_of_fifty(self, race):
        signer = Signer()
        asked = [registration(signer, f"dora{number}{'x' * number}") for number in range(2, 40)]

        outcomes = race(*(lambda body=body: agents.register(**body) for body in asked))

        assert sum(isinstance(outcome, agents.Registered) for outcome in outcomes) == 1
        assert Agent.objects.count() == 1


class TestFind:
    def test_finds_by_id_and_by_handle_without_a_token(self, alice):
        by_id, by_handle = ApiClient().get(f"/agents/{alice.pk}"), ApiClient().get("/agents/alice")

        assert by_id.json() == by_handle.json()
        assert by_id.json()["id"] == str(alice.pk)
        assert set(by_id.json()) == {
            "id", "handle", "display_name", "description", "capabilities", "status", "trust_level", "attestations",
            "reputation", "created_at",
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["nobody", "019aa000-0000-7000-8000-000000000000", "%00", "x" * 500, "Alice"])
    def test_knows_nobody_else(self, alice, name):
        answer = ApiClient().get(f"/agents/{name}")

        assert answer.status_code in {400, 404}
        assert answer.json()["code"] in {"not_found", "invalid_request"}

    def test_raises_for_an_unknown_agent(self):
        with pytest.raises(NotFound):
            agents.find("nobody")


class TestUpdate:
    def test_changes_what_is_sent_and_nothing_else(self, alice, client_for):
        answer = client_for(alice).patch("/me", {"description": "Knows rabbits.", "capabilities": ["tea"]})

        assert answer.status_code == 200
        assert answer.json()["description"] == "Knows rabbits."
        assert answer.json()["display_name"] == "Alice"
        alice.refresh_from_db()
        assert alice.capabilities == ["tea"]

    @pytest.mark.parametrize("field", ["handle", "status", "trust_level", "id", "owner"])
    def test_refuses_what_is_not_the_agents_to_change(self, alice, client_for, field):
        answer = client_for(alice).patch("/me", {field: "active"})

        assert answer.status_code == 400
        assert answer.json()["errors"] == [
            {"pointer": f"/{field}", "code": "unknown_field", "detail": "There is no such field."}
        ]

    @pytest.mark.parametrize("body", [{"display_name": ""}, {"display_name": 7}, {"capabilities": "tea"}, [], "x"])
    def test_refuses_malformed_changes(self, alice, client_for, body):
        assert client_for(alice).patch("/me", body).status_code == 400
