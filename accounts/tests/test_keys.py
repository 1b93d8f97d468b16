import pytest
from django.db import DatabaseError, transaction

from accounts import challenges, ids, keys
from accounts.models import AgentKey, Event
from accounts.tests.signers import Signer

pytestmark = pytest.mark.django_db


@pytest.fixture
def signer(alice):
    signer = Signer()
    AgentKey.objects.create(agent=alice, public_key=signer.raw)
    return signer


@pytest.fixture
def api(alice, client_for):
    return client_for(alice)


def addition(old, new, *, asked_by=None):
    """Build the body of POST /me/keys, with a challenge for the new key or for the one that `asked_by` holds."""
    challenge = (asked_by or new).ask("add_key")
    return {
        "public_key": new.public_key,
        "challenge_id": challenge["challenge_id"],
        "signature_by_existing_key": old.sign_text(challenge["message"]),
        "signature_by_new_key": new.sign_text(challenge["message"]),
    }


class TestAdd:
    @pytest.mark.parametrize("asked_by_new", [True, False])
    def test_adds_a_key_that_both_keys_signed_for(self, api, signer, asked_by_new):
        new = Signer()

        answer = api.post("/me/keys", addition(signer, new, asked_by=new if asked_by_new else signer))

        assert answer.status_code == 201
        assert answer.json()["public_key"] == new.public_key
        assert {row["public_key"] for row in api.get("/me/keys").json()["data"]} == {new.public_key, signer.public_key}
        assert new.sign_in().status_code == 201
        assert Event.objects.filter(type="key.added").count() == 1

    @pytest.mark.parametrize("forged", ["signature_by_existing_key", "signature_by_new_key"])
    def test_needs_both_signatures(self, api, signer, forged):
        new = Signer()
        body = addition(signer, new)

        answer = api.post("/me/keys", body | {forged: Signer().sign_text("anything")})

        assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")
        assert api.post("/me/keys", body).status_code == 201, "the challenge is not spent"

    def test_does_not_take_the_new_keys_signature_for_the_old_ones(self, api, signer):
        new = Signer()
        body = addition(new, new)

        answer = api.post("/me/keys", body)

        assert answer.json()["code"] == "signature_invalid"

    def test_refuses_a_key_of_another_agent(self, api, signer, bob):
        other = Signer()
        AgentKey.objects.create(agent=bob, public_key=other.raw)

        answer = api.post("/me/keys", addition(signer, other))

        assert (answer.status_code, answer.json()["code"]) == (409, "key_taken")

    def test_refuses_a_key_that_it_has_already(self, api, signer):
        answer = api.post("/me/keys", addition(signer, signer))

        assert (answer.status_code, answer.json()["code"]) == (409, "key_taken")

    def test_refuses_a_challenge_for_a_third_key(self, api, signer):
        new = Signer()

        answer = api.post("/me/keys", addition(signer, new, asked_by=Signer()))

        assert (answer.status_code, answer.json()["code"]) == (404, "challenge_unknown")

    def test_is_done_once_for_a_challenge(self, api, signer):
        body = addition(signer, Signer())
        api.post("/me/keys", body)

        assert api.post("/me/keys", body).json()["code"] == "challenge_spent"

    def test_needs_the_scope(self, alice, client_for, signer):
        answer = client_for(alice, ["jobs:write"]).post("/me/keys", addition(signer, Signer()))

        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


class TestRemove:
    @pytest.fixture
    def second(self, alice):
        second = Signer()
        second.row = AgentKey.objects.create(agent=alice, public_key=second.raw)
        return second

    def test_takes_a_key_from_signing_and_keeps_it_taken(self, api, signer, second):
        answer = api.delete(f"/me/keys/{second.row.pk}", signer.answered("confirm"))

        assert answer.status_code == 204
        assert second.sign_in().json()["code"] == "unauthenticated"
        assert second.register("alice-two").json()["code"] == "key_taken"
        assert Event.objects.filter(type="key.removed").count() == 1

    def test_leaves_the_last_key(self, api, signer):
        row = AgentKey.objects.get()

        answer = api.delete(f"/me/keys/{row.pk}", signer.answered("confirm"))

        assert (answer.status_code, answer.json()["code"]) == (409, "last_key")
        assert signer.sign_in().status_code == 201

    def test_needs_a_fresh_signature(self, api, signer, second):
        used = signer.answered("confirm")
        spare = Signer()
        spare_row = api.post("/me/keys", addition(signer, spare)).json()["id"]
        api.delete(f"/me/keys/{spare_row}", used)

        refusals = [
            api.delete(f"/me/keys/{second.row.pk}", body)
            for body in [used, signer.answered("sign_in"), Signer().answered("confirm"), None]
        ]

        assert [refusal.json()["code"] for refusal in refusals] == [
            "challenge_spent", "challenge_unknown", "challenge_unknown", "invalid_request",
        ]  # fmt: skip
        second.row.refresh_from_db()
        assert second.row.removed_at is None

    def test_does_not_tell_a_foreign_key_from_an_unknown_one(self, api, signer, second, bob):
        foreign = AgentKey.objects.create(agent=bob, public_key=Signer().raw)

        answers = [api.delete(f"/me/keys/{pk}", signer.answered("confirm")) for pk in (foreign.pk, ids.uuid7())]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["detail"] == answers[1].json()["detail"]


class TestRemoveAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_leaves_one_of_eight_keys(self, race, alice):
        signers = [Signer() for _ in range(8)]
        rows = [AgentKey.objects.create(agent=alice, public_key=signer.raw) for signer in signers]
        proofs = [challenges.issue(purpose="confirm", public_key=signer.raw) for signer in signers]

        def remove(number):
            signature = signers[number].sign(proofs[number].message)
            return keys.remove(rows[number].pk, agent=alice, challenge_id=proofs[number].pk, signature=signature)

        outcomes = race(*(lambda number=number: remove(number) for number in range(8)))

        assert sum(isinstance(outcome, AgentKey) for outcome in outcomes) == 7
        assert sum(isinstance(outcome, keys.LastKey) for outcome in outcomes) == 1
        assert AgentKey.objects.filter(removed_at=None).count() == 1


class TestRow:
    def test_is_never_deleted(self, signer):
        with pytest.raises(DatabaseError), transaction.atomic():
            AgentKey.objects.all().delete()

    def test_never_changes_hands(self, signer, bob):
        with pytest.raises(DatabaseError), transaction.atomic():
            AgentKey.objects.update(agent=bob)

    def test_has_32_bytes(self, alice):
        with pytest.raises(DatabaseError), transaction.atomic():
            AgentKey.objects.create(agent=alice, public_key=b"short")
