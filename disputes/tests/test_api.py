"""The disputes over HTTP: shapes, scopes, refusals, previews."""

import hashlib
import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator, FormatChecker

from accounts import clock, ids
from accounts.models import Agent
from disputes import appeals, deadlines, evidence, questions
from disputes.api import rendering
from disputes.decisions import Decision
from disputes.models import Dispute, Evidence
from disputes.tests.conftest import DAY, REASONS, STATEMENT, ruled
from disputes.tests.uploads import upload
from marketplace.models import Job

pytestmark = pytest.mark.django_db
OPENING = {"reason": "not_as_agreed", "statement": STATEMENT, "requested_seller_bps": 2_000}
GROUNDS = "The delivery holds twelve chapters; the reader that the client used shows three of them. " * 2
ANSWER = {"statement": STATEMENT, "requested_seller_bps": 9_000}


@pytest.fixture
def job(job_at, noon):
    """A job delivered now, so that the clocks of the database and of the test agree."""
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

    @pytest.mark.parametrize(
        ("name", "content", "content_type", "handed_out"),
        [
            ("terms.pdf", b"%PDF-1.7 ...", "application/pdf", "evidence-1.pdf"),
            ("page.txt", b"<html><script>alert(1)</script>", "text/plain; charset=utf-8", "evidence-1.txt"),
            ("log.json", b'{"a": 1}', "application/json", "evidence-1.json"),
        ],
    )
    def test_takes_a_file_and_hands_out_the_same_bytes(
        self, client, seller, case, name, content, content_type, handed_out
    ):
        answer = upload(client, case["id"], (name, content))

        assert answer.status_code == 201, answer.content
        (item,) = answer.json()["evidence"]
        assert (item["kind"], item["filename"], item["content_type"]) == ("file", name, content_type)
        assert item["sha256"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        file = seller.get(f"/disputes/{case['id']}/evidence/1/file")
        assert file.content == content
        assert file["Content-Disposition"] == f'attachment; filename="{handed_out}"'
        assert file["X-Content-Type-Options"] == "nosniff"
        assert file["Content-Type"] == "application/octet-stream"
        assert file["Content-Security-Policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"

    def test_is_previewed_as_a_file_too(self, client, case):
        answer = upload(client, case["id"], ("terms.pdf", b"%PDF-1.7"), query="?preview=true")

        assert (answer.json()["allowed"], answer.json()["next_state"]) == (True, "awaiting_answer")
        assert not Evidence.objects.exists()

    def test_is_stored_once_for_a_key(self, client, case):
        first = upload(client, case["id"], ("terms.pdf", b"%PDF-1.7"), key="k1")
        again = upload(client, case["id"], ("terms.pdf", b"%PDF-1.7"), key="k1")
        other = upload(client, case["id"], ("terms.pdf", b"%PDF-1.4"), key="k1")

        assert again.json() == first.json()
        assert other.json()["code"] == "idempotency_key_reused"
        assert Evidence.objects.count() == 1

    def test_that_was_erased_is_gone_but_for_its_digest(self, client, case, settings):
        client.post(f"/disputes/{case['id']}/evidence", {"kind": "text", "content": "words"})
        client.post(f"/disputes/{case['id']}/withdrawal")
        settings.EVIDENCE_RETENTION_SECONDS = 0
        evidence.erase_due()

        shown = client.get(f"/disputes/{case['id']}").json()

        assert shown["evidence_erased_at"] is not None
        assert shown["evidence"][0]["sha256"] == f"sha256:{hashlib.sha256(b'words').hexdigest()}"
        assert client.get(f"/disputes/{case['id']}/evidence/1/file").status_code == 404

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


class TestWithdrawalOfBoth:
    @pytest.fixture
    def case(self, client, seller, case):
        return seller.post(f"/disputes/{case['id']}/answer", ANSWER).json()

    def test_is_asked_and_consented_to(self, client, seller, case, job):
        asked = client.post(f"/disputes/{case['id']}/withdrawal")
        offered = seller.get(f"/disputes/{case['id']}").json()["available_actions"]
        consented = seller.post(f"/disputes/{case['id']}/withdrawal")

        assert (asked.status_code, asked.json()["state"]) == (200, "evidence")
        assert asked.json()["withdrawal_asked_at"] is not None
        assert [action["href"] for action in offered if action["action"] == "consent_to_withdrawal"] == [
            f"/v1/disputes/{case['id']}/withdrawal"
        ]
        assert (consented.status_code, consented.json()["state"]) == (200, "withdrawn")
        assert client.get(f"/jobs/{job.id}").json()["state"] == "delivered"

    def test_is_previewed_with_the_deposit(self, client, seller, job_at, case):
        second = client.post(f"/jobs/{job_at('delivered', at=clock.now()).id}/dispute", OPENING).json()
        seller.post(f"/disputes/{second['id']}/answer", ANSWER)
        client.post(f"/disputes/{second['id']}/withdrawal")
        back = [
            {"account": "dispute.deposit", "amount": "-1.000000"},
            {"account": "client.available", "amount": "1.000000"},
        ]

        shown = seller.preview(f"/disputes/{second['id']}/withdrawal").json()
        offered = seller.get(f"/disputes/{second['id']}").json()["available_actions"]

        assert (shown["allowed"], shown["next_state"]) == (True, "withdrawn")
        assert sorted(shown["effects"], key=str) == sorted(back, key=str)
        (consent,) = [action for action in offered if action["action"] == "consent_to_withdrawal"]
        assert sorted(consent["effects"], key=str) == sorted(back, key=str)

    def test_is_refused_before_it_is_asked_and_twice(self, client, seller, client_for, carol, case):
        too_early = seller.post(f"/disputes/{case['id']}/withdrawal")
        client.post(f"/disputes/{case['id']}/withdrawal")
        twice = client.post(f"/disputes/{case['id']}/withdrawal")

        assert (too_early.status_code, too_early.json()["code"]) == (409, "transition_not_allowed")
        assert (twice.status_code, twice.json()["code"]) == (409, "transition_not_allowed")
        assert client_for(carol).post(f"/disputes/{case['id']}/withdrawal").status_code == 404


class TestQuestions:
    @pytest.fixture
    def case(self, case_at, moderator):
        return case_at("under_review")

    @pytest.fixture
    def question(self, case, moderator):
        return questions.ask(
            case.pk,
            moderator=moderator,
            to="seller",
            text="Which chapters did you deliver?",
            revision=case.revision,
        )

    @pytest.fixture
    def noon(self):
        return clock.now() - 3 * DAY

    def test_are_shown_to_both_and_answered_by_whom_they_are_for(self, client, seller, case, question, moderator):
        for party in (client, seller):
            shown = party.get(f"/disputes/{case.id}").json()
            assert shown["awaiting"] == "seller"
            assert shown["questions"] == [
                {
                    "id": str(question.id),
                    "to": "seller",
                    "text": "Which chapters did you deliver?",
                    "answer": None,
                    "asked_at": rendered(question.asked_at),
                    "answer_by": rendered(question.answer_by),
                    "answered_at": None,
                }
            ]
            assert "mona" not in str(shown)
            assert str(moderator.pk) not in str(shown)
        offered = {action["action"]: action["href"] for action in shown["available_actions"]}
        assert offered["answer_question"] == f"/v1/disputes/{case.id}/answers"
        assert offered["submit_evidence"] == f"/v1/disputes/{case.id}/evidence"
        assert "answer_question" not in str(client.get(f"/disputes/{case.id}").json()["available_actions"])

        said = {"question_id": str(question.id), "text": "The first three.\u202e"}
        answer = seller.post(f"/disputes/{case.id}/answers", said)

        assert answer.status_code == 200, answer.content
        assert answer.json()["questions"][0]["answer"] == "The first three.\\u{202E}"
        assert answer.json()["awaiting"] == "moderator"

    def test_are_refused_to_everybody_else(self, client, client_for, carol, case, question):
        said = {"question_id": str(question.id), "text": "The first three."}

        other = client.post(f"/disputes/{case.id}/answers", said)
        stranger = client_for(carol).post(f"/disputes/{case.id}/answers", said)
        unknown = client_for(carol).post(f"/disputes/{ids.uuid7()}/answers", said)

        assert (other.status_code, other.json()["code"]) == (409, "transition_not_allowed")
        assert stranger.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
        assert stranger.status_code == 404
        question.refresh_from_db()
        assert question.answer is None

    @pytest.mark.parametrize(
        ("changed", "pointer"),
        [
            ({"question_id": "x"}, "/question_id"),
            ({"text": ""}, "/text"),
            ({"text": "  "}, "/text"),
            ({"text": "x" * 20_001}, "/text"),
            ({"text": 7}, "/text"),
            ({"colour": "red"}, "/colour"),
        ],
    )
    def test_refuse_bad_input_with_a_pointer(self, seller, case, question, changed, pointer):
        said = {"question_id": str(question.id), "text": "The first three."} | changed

        answer = seller.post(f"/disputes/{case.id}/answers", said)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == pointer
        question.refresh_from_db()
        assert question.answer is None

    def test_are_previewed(self, seller, case, question):
        said = {"question_id": str(question.id), "text": "The first three."}

        shown = seller.preview(f"/disputes/{case.id}/answers", said).json()

        assert (shown["allowed"], shown["next_state"], shown["effects"]) == (True, "under_review", [])
        question.refresh_from_db()
        assert question.answer is None


class TestAppeal:
    @pytest.fixture
    def noon(self):
        return clock.now() - 3 * DAY

    @pytest.fixture
    def case(self, case_at):
        return case_at("ruled")

    def test_is_filed_with_its_deposit_and_shown_to_both(self, client, seller, case, balance_of, bob, moderator):
        answer = seller.post(f"/disputes/{case.id}/appeal", {"grounds": GROUNDS})

        assert answer.status_code == 201, answer.content
        shown = client.get(f"/disputes/{case.id}").json()
        assert (shown["state"], shown["awaiting"]) == ("appealed", "moderator")
        appeal = shown["appeal"]
        assert (appeal["by"], appeal["grounds"], appeal["outcome"], appeal["reasons"]) == (
            "seller",
            GROUNDS,
            None,
            None,
        )
        assert appeal["deposit"] == {"due": "0.000000", "held": "0.000000", "went": None}
        assert appeal["decide_by"] == shown["deadline"]["at"]
        assert shown["ruling"]["seller_bps"] == 3_000
        assert "mona" not in str(shown)
        assert "appeal" not in [action["action"] for action in shown["available_actions"]]

    def test_is_offered_and_previewed_with_its_deposit(self, client, case_at, job_at):
        case_at("withdrawn")
        case = case_at("ruled", job=job_at("delivered", at=clock.now() - 3 * DAY))
        offered = client.get(f"/disputes/{case.id}").json()["available_actions"]

        shown = client.preview(f"/disputes/{case.id}/appeal", {"grounds": GROUNDS}).json()

        assert [action["href"] for action in offered] == [f"/v1/disputes/{case.id}/appeal"]
        assert (shown["allowed"], shown["next_state"]) == (True, "appealed")
        assert shown["effects"] == [
            {"account": "client.available", "amount": "-1.000000"},
            {"account": "dispute.appeal_deposit", "amount": "1.000000"},
        ]
        assert Dispute.objects.get(pk=case.pk).state == "ruled"

    def test_needs_a_key_and_grounds(self, client, case):
        no_key = client.post(f"/disputes/{case.id}/appeal", {"grounds": GROUNDS}, key=None)
        no_grounds = client.post(f"/disputes/{case.id}/appeal", {"grounds": "Unfair."})
        too_many = client.post(f"/disputes/{case.id}/appeal", {"grounds": "x" * 5_001})

        assert (no_key.status_code, no_key.json()["code"]) == (400, "idempotency_key_required")
        for answer in (no_grounds, too_many):
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/grounds")
        assert Dispute.objects.get(pk=case.pk).state == "ruled"

    def test_is_refused_a_second_time_and_to_a_stranger(self, client, seller, client_for, carol, case):
        seller.post(f"/disputes/{case.id}/appeal", {"grounds": GROUNDS})

        again = client.post(f"/disputes/{case.id}/appeal", {"grounds": GROUNDS})
        stranger = client_for(carol).post(f"/disputes/{case.id}/appeal", {"grounds": GROUNDS})

        assert (again.status_code, again.json()["code"]) == (409, "transition_not_allowed")
        assert stranger.status_code == 404

    def test_that_was_decided_shows_reasons_but_neither_person_nor_notes(self, seller, case, make_senior):
        seller.post(f"/disputes/{case.id}/appeal", {"grounds": GROUNDS})
        case.refresh_from_db()
        appeals.uphold(
            case.pk,
            senior=make_senior("serena"),
            revision=case.revision,
            reasons=REASONS,
            private_notes="Between us: the seller was rude.",
        )

        answer = seller.get(f"/disputes/{case.id}")

        appeal = answer.json()["appeal"]
        assert (answer.json()["state"], appeal["outcome"], appeal["reasons"]) == ("final", "upheld", REASONS)
        text = answer.content.decode() + seller.get("/events").content.decode()
        assert "serena" not in text
        assert "rude" not in text


class TestProposedRuling:
    def test_is_shown_to_nobody(self, case_at, client, seller, moderator, noon):
        case = case_at("under_review")
        ruled(case, moderator, at=noon + 3 * DAY, reason_codes=["fraud"])

        for party in (client, seller):
            answer = party.get(f"/disputes/{case.id}")
            assert answer.json()["state"] == "awaiting_approval"
            assert "ruling" not in answer.json()
            text = answer.content.decode() + party.get("/events").content.decode()
            assert "fraud" not in text
            assert "3000" not in text
            assert REASONS[:50] not in text


def rendered(at) -> str:
    return at.isoformat().replace("+00:00", "Z")


class TestRuling:
    def test_shows_reasons_but_neither_author_nor_notes(self, case_at, client, seller, moderator, alice: Agent):
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


@pytest.fixture(scope="module")
def shape():
    document = json.loads(json.dumps(SchemaGenerator().get_schema(request=None, public=True), default=str))
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    schema = {"$ref": "#/components/schemas/DisputeShape", "components": document["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker())


class TestShape:
    """Every answer has what the OpenAPI document says, and nothing beside it."""

    @pytest.mark.parametrize(
        "state",
        ["awaiting_answer", "evidence", "under_review", "ruled", "appealed", "final", "settled", "withdrawn"],
    )
    def test_is_as_documented(self, shape, case_at, alice, bob, moderator, noon, state):
        case = case_at("ruled" if state == "appealed" else state)
        if state == "evidence":
            evidence.submit(case.pk, by=alice, item=evidence.from_file(b"%PDF-1.7", "terms.pdf"), at=noon + DAY)
        if state == "under_review":
            text = "Which chapters did you deliver?"
            asked = {"to": "seller", "text": text, "revision": case.revision, "at": noon + 3 * DAY}
            question = questions.ask(case.pk, moderator=moderator, **asked)
            questions.answer(case.pk, by=bob, question_id=question.id, text="Three.", at=noon + 3 * DAY)
        if state == "appealed":
            appeals.file(case.pk, appellant=bob, grounds=GROUNDS, at=noon + 3 * DAY)
        whole = rendering.whole(Dispute.objects.filter(pk=case.pk))

        for party in (alice, bob):
            shown = rendering.dispute(whole.get(), viewer=party, at=noon + 3 * DAY)
            assert [error.message for error in shape.iter_errors(json.loads(json.dumps(shown)))] == []

    def test_of_a_redo_has_no_share(self, shape, case_at, alice, moderator, noon):
        case = case_at("under_review")
        ruled(case, moderator, at=noon + 3 * DAY, decision=Decision(seller_bps=0, bond_to="seller", redo=True))

        shown = rendering.dispute(rendering.whole(Dispute.objects.all()).get(), viewer=alice, at=noon + 3 * DAY)

        assert (shown["ruling"]["seller_bps"], shown["ruling"]["redo"]) == (None, True)
        assert [error.message for error in shape.iter_errors(json.loads(json.dumps(shown)))] == []


class TestList:
    def test_costs_the_same_however_many_there_are_and_whatever_state_they_are_in(
        self, client, case_at, job_at, alice, bob, moderator, noon, django_assert_num_queries
    ):
        with CaptureQueriesContext(connection) as empty:
            client.get("/disputes")
        for state in ("awaiting_answer", "evidence", "under_review", "ruled", "final"):
            case_at(state, job=job_at())
        appealed = case_at("ruled", job=job_at())
        appeals.file(appealed.pk, appellant=bob, grounds=GROUNDS, at=noon + 3 * DAY)

        with django_assert_num_queries(len(empty) + 3):  # evidence, questions, rulings
            listed = client.get("/disputes").json()["data"]

        assert [case.get("appeal", {}).get("by") for case in listed] == ["seller", None, None, None, None, None]
