"""One transaction for the verb, its events and the answer for its key."""

import threading

import pytest
from django.db import connection, transaction

from accounts import idempotency, tokens
from accounts.edge.tests import views
from accounts.edge.tests.views import notes
from accounts.models import Event, IdempotencyRecord, Token
from accounts.tests.http import ApiClient
from accounts.tests.signers import Signer

pytestmark = [pytest.mark.django_db, pytest.mark.urls("accounts.edge.tests.views")]


@pytest.fixture
def client(alice, client_for):
    return client_for(alice)


class TestKey:
    def test_replays_the_first_answer_without_doing_it_again(self, client):
        first = client.post("/notes", key="k")
        second = client.post("/notes", key="k")

        assert first.status_code == second.status_code == 201
        assert "Idempotent-Replayed" not in first
        assert second["Idempotent-Replayed"] == "true"
        assert second.json()["id"] == first.json()["id"]
        assert notes() == 1

    def test_replays_secrets_as_null(self, client):
        first = client.post("/notes", key="k").json()
        second = client.post("/notes", key="k").json()

        assert first["secret"] == first["deep"]["secret"] == "s3cret"
        assert second == first | {"secret": None, "deep": {"secret": None, "shown": 1}}
        assert "s3cret" not in str(IdempotencyRecord.objects.values())

    def test_replays_an_answer_without_a_body(self, client):
        first = client.delete("/notes", key="k")
        second = client.delete("/notes", key="k")

        assert first.status_code == second.status_code == 204
        assert second["Idempotent-Replayed"] == "true"
        assert second.content == b""
        assert notes() == 1

    def test_means_the_same_request_whatever_its_spelling(self, client):
        client.post("/money", b"{}", key="k")
        again = client.post("/money", b" { } ", key="k")

        assert again["Idempotent-Replayed"] == "true"

    def test_of_another_body_is_refused(self, client):
        client.post("/notes", key="k")
        answer = client.post("/notes", {"more": 1}, key="k")

        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency_key_reused"
        assert notes() == 1

    @pytest.mark.parametrize("path", ["/money", "/notes?a=1"])
    def test_of_another_call_is_refused(self, client, path):
        client.post("/notes", key="k")

        assert client.post(path, key="k").status_code == 422

    def test_of_another_method_is_refused(self, client):
        client.post("/notes", key="k")

        assert client.delete("/notes", {}, key="k").status_code == 422

    def test_of_another_agent_is_another_key(self, client, client_for, bob):
        first = client.post("/notes", key="k")
        other = client_for(bob).post("/notes", key="k")

        assert other.status_code == 201
        assert "Idempotent-Replayed" not in other
        assert other.json()["id"] != first.json()["id"]
        assert notes() == 2

    def test_of_another_token_of_the_same_agent_is_the_same_key(self, client, client_for, alice):
        client.post("/notes", key="k")

        assert client_for(alice).post("/notes", key="k")["Idempotent-Replayed"] == "true"

    def test_is_not_used_up_by_a_refusal(self, client, monkeypatch):
        refused = client.post("/refused", key="k")
        monkeypatch.setattr(views.Refused, "allowed", True)
        allowed = client.post("/refused", key="k")

        assert refused.status_code == 409
        assert refused.json()["state"] == "sleeping"
        assert allowed.status_code == 200
        assert "Idempotent-Replayed" not in allowed
        assert notes() == 1

    def test_is_not_used_up_by_a_crash(self, client):
        assert client.post("/crash", key="k").status_code == 500

        assert notes() == 0
        assert not IdempotencyRecord.objects.exists()

    @pytest.mark.parametrize("send", ["post", "delete"])
    def test_is_required_for_money(self, client, send):
        answer = getattr(client, send)("/money", key=None)

        assert answer.status_code == 400
        assert answer.json()["code"] == "idempotency_key_required"
        assert notes() == 0

    def test_is_kept_for_money_and_for_a_day_otherwise(self, client):
        client.post("/money", key="money")
        client.post("/notes", key="note")

        assert dict(IdempotencyRecord.objects.values_list("key", "keep")) == {"money": True, "note": False}

    @pytest.mark.parametrize("key", ["", " ", "a b", "\x7f", "ä", "x" * 256, "a\tb"])
    def test_that_is_malformed_is_refused(self, client, key):
        answer = client.post("/notes", key=key)

        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid_request"
        assert notes() == 0

    @pytest.mark.parametrize("key", ["!", "~", "x" * 255, "019aa3f1-6f0e-7c55-9d3e-0d9b3f3a6c11"])
    def test_may_be_any_visible_ascii(self, client, key):
        assert client.post("/notes", key=key).status_code == 201

    def test_is_nothing_to_a_reading_call(self, client):
        first = client.http.get("/v1/notes", headers=client._headers() | {"Idempotency-Key": "k"})

        assert first.status_code == 200
        assert not IdempotencyRecord.objects.exists()

    def test_of_a_spent_token_is_refused_and_not_replayed(self, client, alice):
        client.post("/notes", key="k")
        tokens.revoke_all(alice)

        assert client.post("/notes", key="k").status_code == 401

    def test_of_who_lost_the_scope_is_refused_and_not_replayed(self, client, client_for, alice):
        client.post("/notes", key="k")

        assert client_for(alice, scopes=["jobs:read"]).post("/notes", key="k").status_code == 403


@pytest.mark.urls("config.urls")
class TestKeyBeforeThereIsAnAgent:
    def test_belongs_to_the_public_key_at_its_address(self):
        signer, other = Signer(), Signer()
        http = ApiClient()

        def ask(who):
            return http.post("/auth/challenges", {"purpose": "register", "public_key": who.public_key}, key="k")

        assert ask(signer).json() == ask(signer).json()
        assert "Idempotent-Replayed" not in ask(other)

    def test_replays_a_registration_without_its_token(self):
        signer = Signer()
        body = {"public_key": signer.public_key, "handle": "zoe", "display_name": "Zoe"} | signer.answered("register")

        first = ApiClient().post("/agents", body, key="k")
        second = ApiClient().post("/agents", body, key="k")

        assert (first.status_code, second.status_code) == (201, 201)
        assert second["Idempotent-Replayed"] == "true"
        assert second.json()["agent"] == first.json()["agent"]
        assert first.json()["token"]["secret"].startswith("blt_test_")
        assert second.json()["token"]["secret"] is None
        assert Token.objects.count() == 1


class TestTransaction:
    def test_surrounds_what_writes(self, client):
        assert client.post("/fails").json() == {"inside": True}

    def test_loses_everything_with_a_refusal(self, client):
        assert client.post("/refused").status_code == 409

        assert notes() == 0

    def test_may_tell_about_a_refusal_afterwards(self, client):
        assert client.post("/told", key=None).status_code == 409

        assert list(Event.objects.filter(type__startswith="test.").values_list("type", flat=True)) == ["test.note"]

    @pytest.mark.parametrize("asked", ["preview=1", "preview=yes", "preview=", "preview=true&preview=false"])
    def test_is_not_done_when_a_preview_is_asked_for_in_other_words(self, client, asked):
        answer = client.post(f"/notes?{asked}")

        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/preview")
        assert notes() == 0

    def test_is_not_there_to_be_previewed_without_a_preview(self, client):
        answer = client.preview("/notes")

        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid_request"
        assert notes() == 0


@pytest.mark.django_db(transaction=True)
class TestCommit:
    def test_that_is_refused_leaves_nothing_and_is_a_conflict(self, client):
        answer = client.post("/late", key="k")

        assert answer.status_code == 409
        assert answer.json()["code"] == "conflict"
        assert notes() == 0
        assert not IdempotencyRecord.objects.exists()

    def test_keeps_effect_and_answer_together(self, client):
        client.post("/money", key="k")

        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT note.xid::text, record.xmin::text FROM accounts_event note, accounts_idempotencyrecord record"
                " WHERE note.type = 'test.note'"
            )
            (effect, answer) = cursor.fetchone()
        assert int(effect) % 2**32 == int(answer)

    def test_fifty_at_once_have_one_effect(self, client, race):
        secret = client.secret

        answers = race(*[lambda: ApiClient(secret).post("/slow-notes", key="k")] * 50)

        assert notes() == 1
        done = [answer for answer in answers if answer.status_code == 201]
        refused = [answer for answer in answers if answer.status_code != 201]
        assert len({answer.json()["id"] for answer in done}) == 1
        assert sum("Idempotent-Replayed" not in answer for answer in done) == 1
        assert {answer.json()["code"] for answer in refused} == {"idempotency_in_progress"}
        assert {answer.status_code for answer in refused} == {409}

    def test_of_another_process_is_seen_by_who_waited(self, client):
        """Hold the key as a request under way does; the one after its end gets its answer."""
        held, let_go = threading.Event(), threading.Event()

        def hold():
            with transaction.atomic():
                idempotency.earlier_answer(scope, "k", fingerprint=b"")
                held.set()
                let_go.wait(10)
            connection.close()

        scope = f"agent:{Token.objects.get().agent_id}"
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(10)
        during = client.post("/notes", key="k")
        let_go.set()
        holder.join()
        after = client.post("/notes", key="k")

        assert during.status_code == 409
        assert during.json()["code"] == "idempotency_in_progress"
        assert after.status_code == 201


@pytest.mark.django_db(transaction=True)
class TestDeadlock:
    def test_is_retried_and_never_seen(self, client, alice, bob, race, monkeypatch):
        attempts = []
        monkeypatch.setattr(views.Deadlock, "attempts", attempts)
        secret = client.secret

        answers = race(
            lambda: ApiClient(secret).post("/deadlock/alice/bob"),
            lambda: ApiClient(secret).post("/deadlock/bob/alice"),
        )

        assert [answer.status_code for answer in answers] == [200, 200], [answer.content for answer in answers]
        assert len(attempts) > 2, "the two never met"
        alice.refresh_from_db()
        assert alice.description == ".."

    def test_that_comes_back_three_times_is_try_later(self, client, monkeypatch):
        monkeypatch.setattr(views.Fails, "error", None)
        monkeypatch.setattr(views.Fails, "sql", "DO $$ BEGIN RAISE 'again' USING ERRCODE = '40P01'; END $$")

        answer = client.post("/fails", key="k")

        assert answer.status_code == 503
        assert answer.json()["code"] == "try_later"
        assert answer["Retry-After"]
        assert not IdempotencyRecord.objects.exists()
