"""The disputes over HTTP: shapes, scopes, refusals, previews."""

import hashlib

import pytest

from accounts import ids
from accounts.models import Agent
from disputes import deadlines
from disputes.models import Dispute, Evidence
from disputes.tests.conftest import DAY, STATEMENT
from marketplace.models import Job

pytestmark = pytest.mark.django_db
OPENING = {"reason": "not_as_agreed", "statement": STATEMENT, "requested_seller_bps": 2_000}
ANSWER = {"statement": STATEMENT, "requested_seller_bps": 9_000}


@pytest.fixture
def job(job_at, noon):
    """A job delivered now, so that the clocks of the database and of the test agree."""
    from accounts import clock

    return job_at("delivered", at=clock.now())


@pytest.fixture
def client(client_for, alice):
    return client_for(alice)


@pytest.fixture
def seller(client_for, bob):
    return client_for(bob)


@pytest.fixture
def case(client, job) -> dict:
    answer = client.post(f"/jobs/{job.id}/dispute", OPENING)
    assert answer.status_code == 201, answer.content
    return answer.json()


class TestOpening:
    def test_answers_the_case_and_the_job_shows_its_clock(self, client, case, job):
        shown = client.get(f"/jobs/{job.id}").json()

        assert case["state"] == "awaiting_answer"
        assert case["requested"] == {"by_client": {"seller_bps": 2_000}}
        assert case["statements"] == {"by_client": STATEMENT}
        assert [action["action"] for action in case["available_actions"]] == ["submit_evidence", "settle", "withdraw"]
        assert shown["state"] == "disputed"
        assert shown["dispute_id"] == case["id"]
        assert shown["deadline"]["at"] == case["deadline"]["at"]
        assert shown["deadline"]["effect"] == case["deadline"]["effect"]

    def test_needs_an_idempotency_key(self, client, job):
        answer = client.post(f"/jobs/{job.id}/dispute", OPENING, key=None)

        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")

    def test_once_for_a_key(self, client, job):
        first = client.post(f"/jobs/{job.id}/dispute", OPENING, key="k1")
        again = client.post(f"/jobs/{job.id}/dispute", OPENING, key="k1")

        assert again.json() == first.json()
        assert again["Idempotent-Replayed"] == "true"
        assert Dispute.objects.count() == 1

    def test_is_refused_a_second_time(self, client, case, job):
        answer = client.post(f"/jobs/{job.id}/dispute", OPENING)

        assert (answer.status_code, answer.json()["code"]) == (409, "transition_not_allowed")

    @pytest.mark.parametrize(
        ("changed", "pointer"),
        [
            ({"statement": "too short"}, "/statement"),
            ({"statement": "x" * 20_001}, "/statement"),
            ({"statement": 7}, "/statement"),
            ({"reason": "mood"}, "/reason"),
            ({"requested_seller_bps": 10_001}, "/requested_seller_bps"),
            ({"requested_seller_bps": -1}, "/requested_seller_bps"),
            ({"requested_seller_bps": "5000"}, "/requested_seller_bps"),
            ({"requested_seller_bps": True}, "/requested_seller_bps"),
            ({"colour": "red"}, "/colour"),
        ],
    )
    def test_refuses_bad_input_with_a_pointer(self, client, job, changed, pointer):
        answer = client.post(f"/jobs/{job.id}/dispute", OPENING | changed)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == pointer
        assert Job.objects.get(pk=job.pk).state == "delivered"

    def test_is_404_for_a_stranger(self, client_for, carol, job):
        answer = client_for(carol).post(f"/jobs/{job.id}/dispute", OPENING)

        assert answer.status_code == 404

    def test_needs_its_scope(self, client_for, alice, job):
        answer = client_for(alice, scopes=["jobs:write"]).post(f"/jobs/{job.id}/dispute", OPENING)

        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")

    def test_preview_shows_the_deposit_and_changes_nothing(self, client, case, job_at, balance_of, alice):
        from accounts import clock

        second = job_at("delivered", at=clock.now())

        answer = client.preview(f"/jobs/{second.id}/dispute", OPENING)

        assert answer.status_code == 200, answer.content
        shown = answer.json()
        assert (shown["allowed"], shown["next_state"]) == (True, "awaiting_answer")
        assert shown["effects"] == [
            {"account": "client.available", "amount": "-1.000000"},
            {"account": "dispute.deposit", "amount": "1.000000"},
        ]
        assert Job.objects.get(pk=second.pk).state == "delivered"
        assert Dispute.objects.count() == 1


class TestReading:
    def test_is_for_the_parties_alone(self, client, seller, client_for, carol, case):
        assert client.get(f"/disputes/{case['id']}").json()["id"] == case["id"]
        assert seller.get(f"/disputes/{case['id']}").json()["state"] == "awaiting_answer"
        assert client_for(carol).get(f"/disputes/{case['id']}").status_code == 404
        assert client_for(carol).get("/disputes").json() == {"data": [], "next_cursor": None}
        assert [row["id"] for row in seller.get("/disputes").json()["data"]] == [case["id"]]
        assert seller.get("/disputes", state="final").json()["data"] == []
        assert seller.get("/disputes", state="strange").status_code == 400

    def test_a_list_costs_the_same_however_many_there_are(self, client, job_at, case, django_assert_max_num_queries):
        from accounts import clock

        for _ in range(4):
            client.post(f"/jobs/{job_at('delivered', at=clock.now()).id}/dispute", OPENING)

        with django_assert_max_num_queries(7):
            assert len(client.get("/disputes").json()["data"]) == 5


class TestAnswering:
    def test_opens_the_time_for_evidence(self, seller, case):
        answer = seller.post(f"/disputes/{case['id']}/answer", ANSWER)

        assert (answer.status_code, answer.json()["state"]) == (200, "evidence")
        assert answer.json()["requested"]["by_seller"] == {"seller_bps": 9_000}

    def test_is_not_the_openers(self, client, case):
        answer = client.post(f"/disputes/{case['id']}/answer", ANSWER)

        assert (answer.status_code, answer.json()["code"]) == (409, "transition_not_allowed")
        assert answer.json()["state"] == "awaiting_answer"
        assert answer.json()["available_actions"] == ["submit_evidence", "settle", "withdraw"]

    def test_preview_changes_nothing(self, seller, case):
        shown = seller.preview(f"/disputes/{case['id']}/answer", ANSWER).json()

        assert (shown["allowed"], shown["next_state"], shown["effects"]) == (True, "evidence", [])
        assert Dispute.objects.get().state == "awaiting_answer"


class TestEvidence:
    def test_is_stored_as_sent_and_chained(self, client, seller, case):
        text = "I asked for twelve chapters.\nسلام ‮"
        client.post(f"/disputes/{case['id']}/evidence", {"kind": "text", "content": text})
        answer = seller.post(f"/disputes/{case['id']}/evidence", {"kind": "json", "content": {"b": 1, "a": [2]}})

        assert answer.status_code == 201
        first, second = answer.json()["evidence"]
        assert (first["by"], first["kind"], first["number"]) == ("client", "text", 1)
        assert first["sha256"] == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        assert second["sha256"] == "sha256:" + hashlib.sha256(b'{"a":[2],"b":1}').hexdigest()
        assert second["chain_hash"] != first["chain_hash"]
        file = seller.get(f"/disputes/{case['id']}/evidence/1/file")
        assert file.content.decode() == text
        assert file["Content-Disposition"].startswith("attachment")
        assert file["X-Content-Type-Options"] == "nosniff"
        assert file["Content-Type"] == "application/octet-stream"

    def test_of_others_is_not_there(self, client, client_for, carol, case):
        client.post(f"/disputes/{case['id']}/evidence", {"kind": "text", "content": "x"})

        assert client_for(carol).get(f"/disputes/{case['id']}/evidence/1/file").status_code == 404
        assert client.get(f"/disputes/{case['id']}/evidence/2/file").status_code == 404
        assert client.get(f"/disputes/{case['id']}/evidence/70000/file").status_code == 404

    @pytest.mark.parametrize(
        "body",
        [
            {"kind": "text", "content": ""},
            {"kind": "text", "content": {"a": 1}},
            {"kind": "text"},
            {"kind": "file", "content": "x"},
            {"kind": "json", "content": 2**60},
            {"kind": "text", "content": "x", "by": "seller"},
        ],
    )
    def test_refuses_bad_input(self, client, case, body):
        answer = client.post(f"/disputes/{case['id']}/evidence", body)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert not Evidence.objects.exists()

    def test_files_come_later(self, client, case):
        from django.core.files.uploadedfile import SimpleUploadedFile

        answer = client.http.post(
            f"/v1/disputes/{case['id']}/evidence",
            {"file": SimpleUploadedFile("a.png", b"\x89PNG")},
            headers={"Authorization": f"Bearer {client.secret}"},
        )

        assert (answer.status_code, answer.json()["code"]) == (400, "not_available")

    def test_ends_with_the_eleventh_item_of_a_side(self, client, seller, case):
        for number in range(10):
            assert client.post(
                f"/disputes/{case['id']}/evidence", {"kind": "text", "content": f"item {number}"}
            ).status_code == 201  # fmt: skip

        answer = client.post(f"/disputes/{case['id']}/evidence", {"kind": "text", "content": "one too many"})

        assert (answer.status_code, answer.json()["code"]) == (409, "evidence_full")
        assert seller.post(f"/disputes/{case['id']}/evidence", {"kind": "json", "content": 1}).status_code == 201


class TestWithdrawal:
    def test_brings_the_job_back(self, client, case, job):
        answer = client.post(f"/disputes/{case['id']}/withdrawal")

        assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
        assert answer.json()["deadline"] is None
        assert client.get(f"/jobs/{job.id}").json()["state"] == "delivered"

    def test_preview_says_so(self, client, case):
        shown = client.preview(f"/disputes/{case['id']}/withdrawal").json()

        assert (shown["allowed"], shown["next_state"]) == (True, "withdrawn")
        assert Dispute.objects.get().state == "awaiting_answer"

    def test_is_refused_to_the_other_side(self, seller, case):
        shown = seller.preview(f"/disputes/{case['id']}/withdrawal").json()

        assert shown["allowed"] is False
        assert shown["refusal"]["code"] == "transition_not_allowed"


class TestSettlementOffers:
    def test_settle_a_disputed_job(self, client, seller, case, job, balance_of, bob):
        before = balance_of("available", bob)
        offered = client.post(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 6_000})
        shown = seller.preview(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 4_000}).json()

        settled = seller.post(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 4_000})

        assert offered.json()["settlement"] == {"by_client": {"seller_bps": 6_000}}
        assert shown["next_state"] == "resolved"
        assert {"account": "seller.available", "amount": "24.750000"} in shown["effects"]
        assert settled.json()["state"] == "resolved"
        assert balance_of("available", bob) - before == 24_750_000
        assert client.get(f"/disputes/{case['id']}").json()["state"] == "settled"

    def test_are_taken_back(self, client, case, job):
        client.post(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 6_000})

        assert client.delete(f"/jobs/{job.id}/settlement-offers").json()["settlement"] == {}
        assert client.delete(f"/jobs/{job.id}/settlement-offers").status_code == 404

    def test_a_stranger_cannot_tell_a_disputed_job_from_an_unknown_one(self, case, job, carol, client_for):
        stranger, offer = client_for(carol), {"seller_bps": 5_000}

        foreign, unknown = (
            stranger.post(f"/jobs/{job_id}/settlement-offers", offer).json() for job_id in (job.id, ids.uuid7())
        )

        assert foreign | {"request_id": ""} == unknown | {"request_id": ""}
        assert foreign["code"] == "not_found"

    def test_need_a_key_and_a_share(self, client, case, job):
        no_key = client.post(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 1}, key=None)
        too_much = client.post(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 10_001})

        assert no_key.json()["code"] == "idempotency_key_required"
        assert too_much.json()["errors"][0]["pointer"] == "/seller_bps"

    def test_serve_a_job_without_a_case(self, client, seller, job):
        client.post(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 5_000})

        assert seller.post(f"/jobs/{job.id}/settlement-offers", {"seller_bps": 5_000}).json()["state"] == "resolved"


class TestWhatComesLater:
    @pytest.mark.parametrize("call", ["appeal", "answers"])
    def test_says_so_to_a_party_and_nothing_to_a_stranger(self, client, client_for, carol, case, call):
        assert client.post(f"/disputes/{case['id']}/{call}", {}).json()["code"] == "not_available"
        assert client_for(carol).post(f"/disputes/{case['id']}/{call}", {}).status_code == 404


class TestRuling:
    def test_shows_reasons_but_neither_author_nor_notes(self, case_at, client, seller, moderator, alice: Agent):
        from disputes.tests.conftest import REASONS

        case = case_at("ruled")

        shown = client.get(f"/disputes/{case.id}").json()

        assert shown["ruling"]["reasons"] == REASONS
        assert shown["ruling"]["seller_bps"] == 3_000
        assert shown["ruling"]["appeal_by"] == shown["deadline"]["at"]
        text = client.get(f"/disputes/{case.id}").content.decode() + client.get("/events").content.decode()
        assert "mona" not in text
        assert str(moderator.id) not in text
        assert "The ruling is carried out: 14.850000 USDC to the seller" in shown["deadline"]["effect"]

    def test_default_says_that_it_is_one(self, case_at, client, noon):
        case = case_at("under_review")
        deadlines.enforce(case.id, at=noon + 30 * DAY)

        shown = client.get(f"/disputes/{case.id}").json()

        assert shown["state"] == "final"
        assert shown["ruling"]["is_default"] is True
        assert shown["ruling"]["seller_bps"] == 5_000
