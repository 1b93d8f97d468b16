import threading
import time
import zlib
from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction

from accounts import challenges, clock, ids, tokens
from accounts.errors import NotAllowed, NotFound, Unauthenticated
from accounts.models import Agent, AgentKey, Event, Token
from accounts.scopes import ALL, OF_THE_LEAVING
from accounts.tests.http import ApiClient
from accounts.tests.signers import Signer

pytestmark = pytest.mark.django_db

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def signer(alice):
    signer = Signer()
    AgentKey.objects.create(agent=alice, public_key=signer.raw)
    return signer


class TestSecret:
    def test_ends_with_the_checksum_of_the_rest(self):
        secret = tokens.new_secret()

        number = 0
        for digit in secret[-6:]:
            number = number * 62 + BASE62.index(digit)
        assert secret.startswith("blt_test_")
        assert len(secret) == len("blt_test_") + 36
        assert set(secret.removeprefix("blt_test_")) <= set(BASE62)
        assert number == zlib.crc32(secret[:-6].encode())

    def test_tells_production_from_the_rest(self, alice, settings):
        _, local = tokens.mint(alice)
        settings.BAILEE_ENV = "production"
        _, live = tokens.mint(alice)

        assert live.startswith("blt_live_")
        assert tokens.authenticate(live).agent == alice
        with pytest.raises(Unauthenticated):
            tokens.authenticate(local)

    def test_is_not_stored(self, alice):
        token, secret = tokens.mint(alice)

        row = Token.objects.filter(pk=token.pk).values_list()[0]
        assert secret[9:] not in repr(row)
        assert token.prefix == secret[9:17]

    def test_is_worthless_under_another_pepper(self, alice, settings):
        _, secret = tokens.mint(alice)
        settings.TOKEN_PEPPER = "another"

        with pytest.raises(Unauthenticated):
            tokens.authenticate(secret)


class TestAuthenticate:
    def test_is_one_statement(self, alice, django_assert_num_queries):
        _, secret = tokens.mint(alice)

        with django_assert_num_queries(1):
            token = tokens.authenticate(secret)
            assert token.agent.handle == "alice"

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: s[:-1] + ("a" if s[-1] != "a" else "b"),
            lambda s: s[:20] + ("a" if s[20] != "a" else "b") + s[21:],
            lambda s: s[:-1],
            lambda s: s + "a",
            lambda s: s.replace("blt_test_", "blt_live_"),
            lambda s: s[9:],
            lambda s: s[:20] + "é" + s[21:],
            lambda s: "",
        ],
    )
    def test_refuses_a_wrong_checksum_without_asking_the_database(self, alice, django_assert_num_queries, change):
        _, secret = tokens.mint(alice)

        with django_assert_num_queries(0), pytest.raises(Unauthenticated):
            tokens.authenticate(change(secret))

    def test_refuses_a_well_formed_stranger(self):
        with pytest.raises(Unauthenticated):
            tokens.authenticate(tokens.new_secret())

    def test_refuses_a_token_that_is_over(self, alice):
        _, secret = tokens.mint(alice, ttl_seconds=60, at=clock.now() - timedelta(seconds=61))

        with pytest.raises(Unauthenticated):
            tokens.authenticate(secret)

    @pytest.mark.parametrize(
        ("networks", "address", "passes"),
        [
            (["192.0.2.0/24"], "192.0.2.77", True),
            (["192.0.2.0/24"], "::ffff:192.0.2.77", True),
            (["192.0.2.0/24"], "192.0.3.1", False),
            (["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1", True),
            (["2001:db8::/32"], "192.0.2.1", False),
            (["192.0.2.0/24"], "", False),
            ([], "", True),
        ],
    )
    def test_minds_the_networks(self, alice, networks, address, passes):
        _, secret = tokens.mint(alice, allowed_networks=networks)

        if passes:
            assert tokens.authenticate(secret, address=address).agent == alice
        else:
            with pytest.raises(Unauthenticated):
                tokens.authenticate(secret, address=address)

    @pytest.mark.parametrize("status", ["leaving", "deactivated"])
    def test_leaves_only_some_scopes_to_an_agent_that_goes(self, alice, status):
        _, secret = tokens.mint(alice)
        Agent.objects.filter(pk=alice.pk).update(status=status)

        assert set(tokens.authenticate(secret).scopes) == OF_THE_LEAVING

    def test_leaves_every_scope_to_a_suspended_agent(self, alice):
        _, secret = tokens.mint(alice)
        Agent.objects.filter(pk=alice.pk).update(status="suspended")

        assert tokens.authenticate(secret).scopes == list(ALL)

    @pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic abc", "Bearer blt_test_x", "x", "Bearer a b"])
    def test_answers_401_with_a_problem_document(self, header):
        answer = ApiClient().http.get("/v1/me", headers={"Authorization": header})

        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthenticated"

    def test_knows_the_client_by_the_proxies_it_trusts(self, alice, settings):
        settings.TRUSTED_PROXIES = 1
        _, secret = tokens.mint(alice, allowed_networks=["192.0.2.7"])

        def status(forwarded):
            headers = {"Authorization": f"Bearer {secret}", "X-Forwarded-For": forwarded}
            return ApiClient().http.get("/v1/me", headers=headers).status_code

        assert status("192.0.2.7") == 200
        assert status("203.0.113.1, 192.0.2.7") == 200
        assert status("192.0.2.7, 203.0.113.1") == 401, "the client wrote the first part itself"


class TestSignIn:
    def test_mints_a_token_for_a_day_with_every_scope(self, signer):
        answer = signer.sign_in()

        body = answer.json()
        assert answer.status_code == 201
        assert body["scopes"] == list(ALL)
        assert (Token.objects.get().expires_at - Token.objects.get().created_at) == timedelta(days=1)
        assert ApiClient(body["secret"]).get("/me").status_code == 200
        assert Event.objects.get().type == "token.created"

    def test_mints_what_was_asked_for(self, signer):
        answer = signer.sign_in(scopes=["jobs:read"], ttl_seconds=600, label="reader", allowed_networks=["127.0.0.1"])

        body = answer.json()
        assert (body["scopes"], body["label"], body["allowed_networks"]) == (["jobs:read"], "reader", ["127.0.0.1/32"])
        client = ApiClient(body["secret"])
        assert client.get("/me").status_code == 200
        assert client.patch("/me", {}).json()["code"] == "scope_missing"

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"scopes": ["jobs:read", "root"]}, "/scopes/1"),
            ({"scopes": []}, "/scopes"),
            ({"scopes": "jobs:read"}, "/scopes"),
            ({"ttl_seconds": 90 * 86_400 + 1}, "/ttl_seconds"),
            ({"ttl_seconds": 0}, "/ttl_seconds"),
            ({"ttl_seconds": "60"}, "/ttl_seconds"),
            ({"ttl_seconds": True}, "/ttl_seconds"),
            ({"allowed_networks": ["10.0.0.1/8"]}, "/allowed_networks/0"),
            ({"allowed_networks": ["example.org"]}, "/allowed_networks/0"),
            ({"label": "x" * 81}, "/label"),
            ({"max_per_job": 5}, "/max_per_job"),
            ({"max_per_day": "0"}, "/max_per_day"),
            ({"agent": "alice"}, "/agent"),
            ({"signature": "x"}, "/signature"),
            ({"challenge_id": "x"}, "/challenge_id"),
            ({"challenge_id": 5}, "/challenge_id"),
        ],
    )
    def test_refuses_malformed_wishes(self, signer, fields, pointer):
        answer = signer.sign_in(**fields)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
        assert not Token.objects.exists()

    def test_takes_the_longest_life(self, signer):
        assert signer.sign_in(ttl_seconds=90 * 86_400).status_code == 201

    def test_refuses_a_key_of_nobody(self):
        answer = Signer().sign_in()

        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")

    def test_refuses_a_spent_challenge(self, signer):
        body = {"public_key": signer.public_key} | signer.answered("sign_in")

        first, second = (ApiClient().post("/auth/tokens", body) for _ in range(2))

        assert first.status_code == 201
        assert (second.status_code, second.json()["code"]) == (409, "challenge_spent")

    def test_refuses_a_challenge_for_another_purpose(self, signer):
        body = {"public_key": signer.public_key} | signer.answered("confirm")

        assert ApiClient().post("/auth/tokens", body).json()["code"] == "challenge_unknown"

    def test_replays_the_answer_without_the_secret(self, signer):
        body = {"public_key": signer.public_key} | signer.answered("sign_in")

        first, second = (ApiClient().post("/auth/tokens", body, key="k") for _ in range(2))

        assert first.json()["secret"]
        assert second.json() == first.json() | {"secret": None}
        assert Token.objects.count() == 1

    def test_gives_an_agent_that_goes_what_is_left_to_it(self, alice, signer):
        Agent.objects.filter(pk=alice.pk).update(status="deactivated")

        assert set(signer.sign_in().json()["scopes"]) == OF_THE_LEAVING
        assert signer.sign_in(scopes=["wallet:read"]).json()["scopes"] == ["wallet:read"]
        assert signer.sign_in(scopes=["jobs:write"]).json()["code"] == "agent_not_active"


class TestList:
    def test_shows_the_agents_own_tokens_without_secrets(self, alice, bob, client_for):
        tokens.mint(bob)
        client = client_for(alice)

        rows = client.get("/auth/tokens").json()["data"]

        assert len(rows) == 1
        assert "secret" not in rows[0]
        assert len(rows[0]["prefix"]) == 8

    def test_needs_the_scope(self, alice, client_for):
        assert client_for(alice, ["jobs:read"]).get("/auth/tokens").json()["code"] == "scope_missing"

    def test_needs_a_token(self):
        assert ApiClient().get("/auth/tokens").status_code == 401


class TestRotate:
    @pytest.fixture
    def old(self, alice, noon):
        return tokens.mint(alice, ttl_seconds=3_600, label="bot", max_per_day_units=5_000_000, at=noon).token

    def test_makes_a_token_of_the_same_rights_and_family(self, old, noon):
        at = noon + timedelta(minutes=30)

        new, secret = tokens.rotate(old.pk, by=old, overlap_seconds=60, at=at)

        assert (new.scopes, new.label, new.max_per_day_units) == (old.scopes, "bot", 5_000_000)
        assert (new.family_id, new.rotated_from_id) == (old.family_id, old.pk)
        assert new.expires_at == at + timedelta(hours=1)
        assert new.digest == tokens.digest_of(secret)

    @pytest.mark.parametrize(("overlap", "minutes"), [(60, 31), (7_200, 60)])
    def test_lets_the_old_one_live_for_the_overlap_but_no_longer_than_before(self, old, noon, overlap, minutes):
        tokens.rotate(old.pk, by=old, overlap_seconds=overlap, at=noon + timedelta(minutes=30))

        old.refresh_from_db()
        assert old.expires_at == noon + timedelta(minutes=minutes)

    def test_ends_the_old_one_at_once_without_overlap(self, alice, client_for):
        client = client_for(alice)
        token_id = client.get("/auth/tokens").json()["data"][0]["id"]

        answer = client.post(f"/auth/tokens/{token_id}/rotation", {"overlap_seconds": 0})

        assert answer.status_code == 201
        assert client.get("/me").status_code == 401
        assert ApiClient(answer.json()["secret"]).get("/me").status_code == 200

    def test_is_done_once(self, old, noon):
        tokens.rotate(old.pk, by=old, overlap_seconds=60, at=noon)

        with pytest.raises(tokens.TokenNotLive):
            tokens.rotate(old.pk, by=old, overlap_seconds=60, at=noon)

    def test_refuses_a_token_that_is_over_or_revoked(self, alice, old, noon):
        with pytest.raises(tokens.TokenNotLive):
            tokens.rotate(old.pk, by=old, overlap_seconds=0, at=noon + timedelta(hours=1))
        tokens.revoke(old.pk, agent=alice, at=noon)
        with pytest.raises(tokens.TokenNotLive):
            tokens.rotate(old.pk, by=old, overlap_seconds=0, at=noon)

    def test_never_makes_a_wider_token(self, alice, noon):
        wide = tokens.mint(alice, at=noon).token
        narrow = tokens.mint(alice, scopes=["tokens:write", "jobs:read"], at=noon).token
        capped = tokens.mint(alice, max_per_day_units=1, at=noon).token

        for by in (narrow, capped):
            with pytest.raises(NotAllowed):
                tokens.rotate(wide.pk, by=by, overlap_seconds=0, at=noon)
        assert tokens.rotate(narrow.pk, by=wide, overlap_seconds=0, at=noon).token.scopes == narrow.scopes

    def test_does_not_tell_a_foreign_token_from_an_unknown_one(self, alice, bob, client_for):
        foreign = tokens.mint(bob).token

        answers = [
            client_for(alice).post(f"/auth/tokens/{pk}/rotation", {"overlap_seconds": 0})
            for pk in (foreign.pk, ids.uuid7())
        ]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["detail"] == answers[1].json()["detail"]

    def test_replays_the_answer_without_the_secret(self, alice, client_for):
        client = client_for(alice)
        token_id = client.get("/auth/tokens").json()["data"][0]["id"]
        path, body = f"/auth/tokens/{token_id}/rotation", {"overlap_seconds": 60}

        first, second = (client.post(path, body, key="k") for _ in range(2))

        assert first.json()["secret"]
        assert second.json() == first.json() | {"secret": None}

    @pytest.mark.parametrize("overlap", [-1, "60", 1.5, None, 604_801])
    def test_refuses_a_malformed_overlap(self, alice, client_for, overlap):
        answer = client_for(alice).post(f"/auth/tokens/{ids.uuid7()}/rotation", {"overlap_seconds": overlap})

        assert answer.json()["errors"][0]["pointer"] == "/overlap_seconds"


class TestRevoke:
    def test_ends_one_token_at_the_next_request(self, alice, client_for):
        client, other = client_for(alice), client_for(alice)
        token_id = client.get("/auth/tokens").json()["data"][1]["id"]

        assert other.delete(f"/auth/tokens/{token_id}").status_code == 204
        assert client.get("/me").status_code == 401
        assert other.get("/me").status_code == 200
        assert Event.objects.filter(type="token.revoked").count() == 1

    def test_changes_nothing_the_second_time(self, alice, noon):
        token = tokens.mint(alice, at=noon).token

        tokens.revoke(token.pk, agent=alice, at=noon)
        again = tokens.revoke(token.pk, agent=alice, at=noon + timedelta(hours=1))

        assert again.revoked_at == noon
        assert Event.objects.filter(type="token.revoked").count() == 1

    def test_does_not_tell_a_foreign_token_from_an_unknown_one(self, alice, bob):
        foreign = tokens.mint(bob).token

        for token_id in (foreign.pk, ids.uuid7()):
            with pytest.raises(NotFound):
                tokens.revoke(token_id, agent=alice)
        foreign.refresh_from_db()
        assert foreign.revoked_at is None


class TestRevokeAll:
    def test_ends_every_token_of_the_agent_and_no_other(self, alice, bob, client_for):
        clients, other = [client_for(alice) for _ in range(3)], client_for(bob)

        answer = clients[0].post("/auth/revocation", {})

        assert (answer.status_code, answer.json()) == (200, {"revoked": 3})
        assert [client.get("/me").status_code for client in clients] == [401, 401, 401]
        assert other.get("/me").status_code == 200

    def test_loses_nothing_that_a_key_does_not_give_back(self, alice, signer, client_for):
        client_for(alice).post("/auth/revocation", {})

        assert signer.sign_in().status_code == 201


class TestAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_rotation_makes_one_successor(self, race, alice):
        old = tokens.mint(alice).token

        outcomes = race(*[lambda: tokens.rotate(old.pk, by=old, overlap_seconds=60)] * 8)

        assert sum(isinstance(outcome, tokens.Minted) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, tokens.TokenNotLive) for outcome in outcomes) == 7
        assert Token.objects.count() == 2

    def test_a_key_that_is_removed_meanwhile_signs_in_no_more(self, race, alice, signer):
        removed = threading.Event()
        challenge = challenges.issue(purpose="sign_in", public_key=signer.raw)
        signature = signer.sign(challenge.message)

        def remove():
            with transaction.atomic():
                Agent.objects.select_for_update(no_key=True).get(pk=alice.pk)  # as `keys.remove` does
                AgentKey.objects.filter(public_key=signer.raw).update(removed_at=clock.now())
                removed.set()
                time.sleep(0.3)  # the other thread has looked for the key by now, and waits for the agent

        def sign_in():
            assert removed.wait(timeout=10)
            return tokens.sign_in(challenge_id=challenge.pk, public_key=signer.raw, signature=signature)

        outcomes = race(remove, sign_in)

        assert isinstance(outcomes[1], Unauthenticated)
        assert not Token.objects.exists()

    def test_revoking_all_finds_the_successor_of_a_rotation_that_commits_meanwhile(self, race, alice):
        old = tokens.mint(alice).token
        rotated = threading.Event()

        def rotate():
            with transaction.atomic():
                tokens.rotate(old.pk, by=old, overlap_seconds=60)
                rotated.set()
                time.sleep(0.3)  # the other thread reads now, and must not have read past us

        def revoke_all():
            assert rotated.wait(timeout=10)
            return tokens.revoke_all(alice)

        outcomes = race(rotate, revoke_all)

        assert outcomes == [None, 2]
        assert not Token.objects.filter(revoked_at=None).exists()


class TestRow:
    @pytest.mark.parametrize(
        "change",
        [
            {"scopes": ["root"]},
            {"max_per_job_units": 0},
            {"max_per_day_units": -1},
            {"digest": b"short"},
        ],
    )
    def test_is_guarded_by_the_database(self, alice, change):
        token = tokens.mint(alice).token

        with pytest.raises(DatabaseError), transaction.atomic():
            Token.objects.filter(pk=token.pk).update(**change)

    def test_lives_90_days_at_most(self, alice):
        with pytest.raises(DatabaseError), transaction.atomic():
            tokens.mint(alice, ttl_seconds=90 * 86_400 + 1)
