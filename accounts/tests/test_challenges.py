from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts import challenges, clock
from accounts.models import AgentKey, Challenge
from accounts.signatures import SignatureInvalid
from accounts.tests.http import ApiClient
from accounts.tests.signers import Signer

pytestmark = pytest.mark.django_db


@pytest.fixture
def signer():
    return Signer()


@pytest.fixture
def challenge(signer, noon):
    return challenges.issue(purpose="sign_in", public_key=signer.raw, at=noon)


def spend(challenge, signer, at, **changes):
    asked = {
        "purpose": "sign_in",
        "public_key": signer.raw,
        "signature": signer.sign(challenge.message),
        "at": at,
    }
    return challenges.spend(challenge.pk, **(asked | changes))


class TestIssue:
    def test_names_what_is_signed(self, signer, settings):
        settings.DOMAIN = "bailee.example"

        answer = signer.ask("sign_in")

        assert set(answer) == {"challenge_id", "message", "expires_at"}
        for part in ["bailee.example", "sign_in", signer.public_key, answer["challenge_id"]]:
            assert part in answer["message"]

    def test_lasts_five_minutes(self, challenge, noon):
        assert challenge.expires_at == noon + timedelta(minutes=5)

    def test_never_repeats_a_message(self, signer, noon):
        first, second = (challenges.issue(purpose="sign_in", public_key=signer.raw, at=noon) for _ in range(2))

        assert first.message != second.message

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"purpose": "sign_in"}, "/public_key"),
            ({"purpose": "steal", "public_key": Signer().public_key}, "/purpose"),
            ({"purpose": "sign_in", "public_key": "abc"}, "/public_key"),
            ({"purpose": "sign_in", "public_key": 7}, "/public_key"),
            ({"purpose": "sign_in", "public_key": None}, "/public_key"),
            ({"purpose": ["sign_in"], "public_key": Signer().public_key}, "/purpose"),
            ({"purpose": "sign_in", "public_key": Signer().public_key, "agent": "x"}, "/agent"),
        ],
    )
    def test_refuses_a_malformed_request(self, body, pointer):
        answer = ApiClient().post("/auth/challenges", body)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


class TestSpend:
    def test_is_done_once(self, challenge, signer, noon):
        spend(challenge, signer, noon)

        with pytest.raises(challenges.ChallengeSpent):
            spend(challenge, signer, noon)

    def test_is_not_done_by_a_bad_signature(self, challenge, signer, noon):
        with pytest.raises(SignatureInvalid):
            spend(challenge, signer, noon, signature=Signer().sign(challenge.message))
        with pytest.raises(SignatureInvalid):
            spend(challenge, signer, noon, signature=signer.sign(challenge.message + " "))

        assert spend(challenge, signer, noon).spent_at == noon

    def test_is_for_one_purpose(self, challenge, signer, noon):
        with pytest.raises(challenges.ChallengeUnknown):
            spend(challenge, signer, noon, purpose="register")

    def test_is_for_one_key(self, challenge, signer, noon):
        other = Signer()

        with pytest.raises(challenges.ChallengeUnknown):
            spend(challenge, other, noon)

    def test_ends_with_the_fifth_minute(self, challenge, signer, noon):
        with pytest.raises(challenges.ChallengeExpired):
            spend(challenge, signer, noon + timedelta(minutes=5))

        assert spend(challenge, signer, noon + timedelta(minutes=5, microseconds=-1)).spent_at

    def test_reads_the_clock_of_the_database(self, signer):
        challenge = challenges.issue(purpose="sign_in", public_key=signer.raw)

        spent = spend(challenge, signer, None)

        assert abs(spent.spent_at - clock.now()) < timedelta(minutes=1)

    def test_is_undone_with_its_effect(self, challenge, signer, noon):
        with transaction.atomic():
            spend(challenge, signer, noon)
            transaction.set_rollback(True)

        assert spend(challenge, signer, noon).spent_at == noon


class TestSpendByAgent:
    @pytest.fixture
    def confirmation(self, alice, signer, noon):
        AgentKey.objects.create(agent=alice, public_key=signer.raw)
        return challenges.issue(purpose="confirm", public_key=signer.raw, at=noon)

    def spend(self, confirmation, agent, signature, noon):
        return challenges.spend_by_agent(agent, confirmation.pk, signature=signature, purpose="confirm", at=noon)

    def test_takes_any_live_key_of_the_agent(self, confirmation, alice, noon):
        second = Signer()
        AgentKey.objects.create(agent=alice, public_key=second.raw)

        assert self.spend(confirmation, alice, second.sign(confirmation.message), noon).spent_at == noon

    def test_refuses_a_removed_key(self, confirmation, alice, noon):
        removed = Signer()
        AgentKey.objects.create(agent=alice, public_key=removed.raw, removed_at=noon)

        with pytest.raises(SignatureInvalid):
            self.spend(confirmation, alice, removed.sign(confirmation.message), noon)

    def test_refuses_another_agents_challenge(self, confirmation, signer, bob, noon):
        other = Signer()
        AgentKey.objects.create(agent=bob, public_key=other.raw)

        with pytest.raises(challenges.ChallengeUnknown):
            self.spend(confirmation, bob, other.sign(confirmation.message), noon)


class TestSpendAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_lets_one_of_fifty_through(self, race, signer, noon):
        challenge = challenges.issue(purpose="sign_in", public_key=signer.raw, at=noon)

        outcomes = race(*[lambda: spend(challenge, signer, noon)] * 50)

        assert sum(isinstance(outcome, Challenge) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, challenges.ChallengeSpent) for outcome in outcomes) == 49


class TestRow:
    def test_cannot_be_spent_after_its_end(self, challenge, noon):
        with pytest.raises(IntegrityError), transaction.atomic():
            Challenge.objects.filter(pk=challenge.pk).update(spent_at=noon + timedelta(hours=1))

    def test_is_forgotten_a_day_after_its_end(self, challenge, signer, noon):
        fresh = challenges.issue(purpose="sign_in", public_key=signer.raw, at=noon + timedelta(days=1))

        assert challenges.forget(at=noon + timedelta(days=1, minutes=6)) == 1
        assert list(Challenge.objects.all()) == [fresh]
