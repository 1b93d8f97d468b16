"""
What agents send by mistake or on purpose: the specified refusal, nothing changed, and never a 500.
"""

import json
from datetime import timedelta

import pytest

from accounts.models import Event, IdempotencyRecord
from accounts.tests.http import ApiClient
from escrow.models import Entry, LedgerAccount
from marketplace.models import Delivery, Job, Listing, Offer, Transition
from marketplace.tests.trades import REASON, TERMS

pytestmark = pytest.mark.django_db
UNKNOWN = "01900000-0000-7000-8000-000000000000"
HASH = "sha256:" + "0" * 64
LISTING = {"title": "x", "description": "x", "skills": [], "price": "1", "delivery_seconds": 60}


def everything():
    """Count what is kept, and read what changes in place."""
    kept = (Offer, Transition, Delivery, Listing, Event, Entry, IdempotencyRecord)
    return (
        [model.objects.count() for model in kept],
        list(Job.objects.order_by("id").values()),
        list(LedgerAccount.objects.order_by("id").values()),
    )


def refused(answer):
    """Name a refusal; it is a problem document with everything that one has."""
    assert answer["Content-Type"] == "application/problem+json", answer.content
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:bailee:problem:{problem['code']}"
    assert problem["request_id"] == answer["X-Request-Id"]
    return answer.status_code, problem["code"], [error["pointer"] for error in problem.get("errors", [])]


# state, who, path, body → status, code, pointers
BODIES = {
    "price as a number": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS | {"price": 10}},
        400, "invalid_request", ["/terms/price"]),
    "seven digits": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS | {"price": "10.0000001"}},
        400, "invalid_request", ["/terms/price"]),
    "bond above price": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS | {"seller_bond": "13"}},
        400, "invalid_request", ["/terms/seller_bond"]),
    "two things wrong": ("-", "client", "/jobs",
        {"seller": "bob", "terms": TERMS | {"price": "x", "delivery_seconds": -1}},
        400, "invalid_request", ["/terms/price", "/terms/delivery_seconds"]),
    "no terms": ("-", "client", "/jobs", {"seller": "bob"}, 400, "invalid_request", ["/terms"]),
    "terms as text": ("-", "client", "/jobs", {"seller": "bob", "terms": "cheap"},
        400, "invalid_request", ["/terms"]),
    "terms as null": ("-", "client", "/jobs", {"seller": "bob", "terms": None}, 400, "invalid_request", ["/terms"]),
    "no seller": ("-", "client", "/jobs", {"terms": TERMS}, 400, "invalid_request", ["/seller"]),
    "a seller as a number": ("-", "client", "/jobs", {"seller": 7, "terms": TERMS},
        400, "invalid_request", ["/seller"]),
    "an unknown seller": ("-", "client", "/jobs", {"seller": "nobody", "terms": TERMS},
        404, "not_found", ["/seller"]),
    "a seller by an unknown id": ("-", "client", "/jobs", {"seller": UNKNOWN, "terms": TERMS},
        404, "not_found", ["/seller"]),
    "oneself": ("-", "client", "/jobs", {"seller": "alice", "terms": TERMS}, 403, "not_allowed", []),
    "an unknown listing": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS, "listing_id": UNKNOWN},
        404, "not_found", []),
    "a listing that is no id": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS, "listing_id": "1"},
        400, "invalid_request", ["/listing_id"]),
    "an unknown field": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS, "tip": "1"},
        400, "invalid_request", ["/tip"]),
    "an unknown field of the terms": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS | {"a/b~c": 1}},
        400, "invalid_request", ["/terms/a~1b~0c"]),
    "no rounds": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS, "max_rounds": 0},
        400, "invalid_request", ["/max_rounds"]),
    "21 rounds": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS, "max_rounds": 21},
        400, "invalid_request", ["/max_rounds"]),
    "an offer of less than an hour": ("-", "client", "/jobs",
        {"seller": "bob", "terms": TERMS, "offer_seconds": 3_599}, 400, "invalid_request", ["/offer_seconds"]),
    "an offer of more than a week": ("-", "client", "/jobs",
        {"seller": "bob", "terms": TERMS, "offer_seconds": 604_801}, 400, "invalid_request", ["/offer_seconds"]),
    "a long message": ("-", "client", "/jobs", {"seller": "bob", "terms": TERMS, "message": "x" * 2_049},
        400, "invalid_request", ["/message"]),
    "an array": ("-", "client", "/jobs", [1], 400, "invalid_request", [""]),
    "text": ("-", "client", "/jobs", "text", 400, "invalid_request", [""]),
    "null": ("-", "client", "/jobs", b"null", 400, "invalid_request", [""]),
    "no hash": ("negotiating", "seller", "/agreement", {}, 400, "invalid_request", ["/terms_hash"]),
    "a hash as a number": ("negotiating", "seller", "/agreement", {"terms_hash": 7},
        400, "invalid_request", ["/terms_hash"]),
    "a long hash": ("negotiating", "seller", "/agreement", {"terms_hash": "x" * 72},
        400, "invalid_request", ["/terms_hash"]),
    "another hash": ("negotiating", "seller", "/agreement", {"terms_hash": HASH}, 409, "terms_changed", []),
    "agreeing to one's own offer": ("negotiating", "client", "/agreement", {"terms_hash": HASH},
        409, "transition_not_allowed", []),
    "countering one's own offer": ("negotiating", "client", "/offers", {"terms": TERMS},
        409, "transition_not_allowed", []),
    "a body where none belongs": ("agreed", "client", "/funding", {"amount": "1"},
        400, "invalid_request", ["/amount"]),
    "the seller funding": ("agreed", "seller", "/funding", {}, 409, "transition_not_allowed", []),
    "the client starting": ("funded", "client", "/start", {}, 409, "transition_not_allowed", []),
    "the client delivering": ("funded", "client", "/deliveries", {"content": []}, 409, "transition_not_allowed", []),
    "the seller approving": ("delivered", "seller", "/approval", {}, 409, "transition_not_allowed", []),
    "the seller asking for a revision": ("delivered", "seller", "/revisions", {"reason": REASON},
        409, "transition_not_allowed", []),
    "funding too early": ("negotiating", "client", "/funding", {}, 409, "transition_not_allowed", []),
    "funding twice": ("funded", "client", "/funding", {}, 409, "transition_not_allowed", []),
    "approving nothing": ("in_progress", "client", "/approval", {}, 409, "transition_not_allowed", []),
    "aborting what is delivered": ("delivered", "client", "/abort", {"reason": "x"},
        409, "transition_not_allowed", []),
    "aborting without a reason": ("funded", "client", "/abort", {}, 400, "invalid_request", ["/reason"]),
    "aborting for an empty reason": ("funded", "client", "/abort", {"reason": ""},
        400, "invalid_request", ["/reason"]),
    "declining what is funded": ("funded", "seller", "/decline", {}, 409, "transition_not_allowed", []),
    "a delivery of text": ("funded", "seller", "/deliveries", {"content": "text"},
        400, "invalid_request", ["/content"]),
    "a delivery of null": ("funded", "seller", "/deliveries", {"content": None},
        400, "invalid_request", ["/content"]),
    "a delivery of nothing": ("funded", "seller", "/deliveries", {}, 400, "invalid_request", ["/content"]),
    "a delivery with a large integer": ("funded", "seller", "/deliveries", {"content": [10**20]},
        400, "invalid_request", ["/content/0"]),
    "a delivery with equal keys": ("funded", "seller", "/deliveries", {"content": {"o\u0308": 1, "\u00f6": 2}},
        400, "invalid_request", ["/content/\u00f6"]),
    "a revision without a reason": ("delivered", "client", "/revisions", {}, 400, "invalid_request", ["/reason"]),
    "a revision for a short reason": ("delivered", "client", "/revisions", {"reason": "x" * 19},
        400, "invalid_request", ["/reason"]),
    "anything once it is over": ("completed", "client", "/decline", {}, 409, "transition_not_allowed", []),
}  # fmt: skip
RAW = {
    "not json": (b"{", "invalid_request", 400),
    "nothing at all": (b"", "invalid_request", 400),
    "not utf-8": (b'{"seller": "\xff"}', "invalid_request", 400),
    "a key twice": (b'{"seller": "bob", "seller": "bob"}', "invalid_request", 400),
    "nan": (b'{"seller": NaN}', "invalid_request", 400),
    "infinity": (b'{"terms": {"requirements": {"a": 1e999}}}', "invalid_request", 400),
    "nul": (b'{"seller": "b\\u0000b"}', "invalid_request", 400),
    "half a surrogate pair": (b'{"seller": "\\ud800"}', "invalid_request", 400),
    "33 levels": (b'{"a":' * 32 + b"1" + b"}" * 32, "invalid_request", 400),
    "ten thousand levels": (b"[" * 10_000 + b"]" * 10_000, "invalid_request", 400),
    "a number of ten thousand digits": (b'{"seller": ' + b"9" * 10_000 + b"}", "invalid_request", 400),
    "too much": (b'{"seller": "' + b"x" * 262_144 + b'"}', "body_too_large", 413),
}


class TestBody:
    @pytest.mark.parametrize("name", BODIES)
    def test_is_refused_and_changes_nothing(self, trade, client_for, name):
        state, who, path, body, status, code, pointers = BODIES[name]
        client = client_for(getattr(trade, who))
        if state != "-":
            path = f"/jobs/{trade.now(state).id}{path}"
        before = everything()

        answer = client.post(path, body)

        assert refused(answer) == (status, code, pointers)
        assert everything() == before

    @pytest.mark.parametrize("name", RAW)
    def test_that_is_no_json_we_read_is_refused(self, trade, client_for, name):
        raw, code, status = RAW[name]
        client = client_for(trade.client)
        before = everything()

        answer = client.post("/jobs", raw)

        assert refused(answer)[:2] == (status, code)
        assert everything() == before

    def test_of_another_type_is_refused(self, trade, client_for):
        client = client_for(trade.client)

        answer = client.http.post("/v1/jobs", b"<job/>", content_type="text/xml", headers=client._headers())

        assert refused(answer)[:2] == (415, "unsupported_media_type")

    @pytest.mark.parametrize("path", ["/jobs/{}/funding", "/jobs/{}/approval", "/jobs/{}/start"])
    @pytest.mark.parametrize("body", [[], "text", 7, None])
    def test_where_none_belongs_is_refused_whatever_it_is(self, trade, client_for, path, body):
        job = trade.now("agreed")

        answer = client_for(trade.client).post(path.format(job.id), json.dumps(body).encode())

        assert answer.status_code == 400
        assert Job.objects.get().revision == job.revision


class TestState:
    def test_of_the_job_is_told_with_what_may_be_done(self, trade, client_for):
        job = trade.now("delivered")

        problem = client_for(trade.client).post(f"/jobs/{job.id}/funding").json()

        assert problem["state"] == "delivered"
        assert problem["available_actions"] == ["approve", "request_revision", "dispute", "settle"]

    def test_that_its_clock_ended_is_over_before_the_sweep_comes(self, trade, client_for, noon):
        trade.at = noon - timedelta(days=3_650)
        job = trade.job("in_progress")
        client, seller = client_for(trade.client), client_for(trade.seller)
        before = everything()

        delivery = seller.post(f"/jobs/{job.id}/deliveries", {"content": []})
        abort = client.post(f"/jobs/{job.id}/abort", {"reason": "late"})

        assert refused(delivery)[:2] == refused(abort)[:2] == (409, "transition_not_allowed")
        assert delivery.json()["available_actions"] == ["abort", "settle"]
        assert everything() == before


class TestMoney:
    def test_that_the_client_lacks(self, trade, client_for):
        job = trade.now("agreed", price="100.5")
        client = client_for(trade.client)
        before = everything()

        answer = client.post(f"/jobs/{job.id}/funding")

        assert refused(answer) == (402, "insufficient_funds", [])
        assert answer.json()["short_by"] == "0.500000"
        assert everything() == before

    def test_that_the_seller_lacks_is_told_to_the_seller_and_not_how_much(self, trade, client_for):
        job = trade.now("agreed", price="60", seller_bond="50.5")
        client = client_for(trade.client)
        before = everything()

        answer = client.post(f"/jobs/{job.id}/funding")

        assert refused(answer) == (409, "bond_unavailable", [])
        assert "short_by" not in answer.json()
        assert "0.5" not in answer.content.decode()
        assert everything()[1:] == before[1:]
        assert Event.objects.latest("id").type == "job.bond_unavailable"

    def test_that_came_in_the_meantime_lets_the_same_key_succeed(self, trade, client_for, credit):
        job = trade.now("agreed", price="100.5")
        client = client_for(trade.client)
        client.post(f"/jobs/{job.id}/funding", key="same")
        credit(trade.client, 1_000_000)

        answer = client.post(f"/jobs/{job.id}/funding", key="same")

        assert (answer.status_code, answer.json()["state"]) == (200, "funded")


class TestKey:
    def test_is_needed_to_fund(self, trade, client_for):
        job = trade.now("agreed")

        answer = client_for(trade.client).post(f"/jobs/{job.id}/funding", key=None)

        assert refused(answer)[:2] == (400, "idempotency_key_required")
        assert Job.objects.get().state == "agreed"

    def test_of_another_request_is_refused(self, trade, client_for):
        job, other = trade.now("agreed"), trade.now("agreed")
        client = client_for(trade.client)
        client.post(f"/jobs/{job.id}/funding", key="same")

        answer = client.post(f"/jobs/{other.id}/funding", key="same")

        assert refused(answer)[:2] == (422, "idempotency_key_reused")
        assert Job.objects.get(pk=other.id).state == "agreed"

    def test_of_another_agent_is_another_key(self, trade, client_for):
        body = {"seller": "bob", "terms": TERMS}
        mine = client_for(trade.client).post("/jobs", body, key="same")
        theirs = client_for(trade.seller).post("/jobs", body | {"seller": "alice"}, key="same")

        assert (mine.status_code, theirs.status_code) == (201, 201)
        assert mine.json()["id"] != theirs.json()["id"]

    @pytest.mark.parametrize("key", ["x" * 256, "two words", "ümlaut"])
    def test_that_is_no_key_is_refused(self, trade, client_for, key):
        job = trade.now("agreed")

        answer = client_for(trade.client).post(f"/jobs/{job.id}/funding", key=key)

        assert answer.status_code == 400
        assert Job.objects.get().state == "agreed"

    def test_replays_the_answer_of_the_first(self, trade, client_for):
        client = client_for(trade.client)
        body = {"seller": "bob", "terms": TERMS}

        first, second = client.post("/jobs", body, key="same"), client.post("/jobs", body, key="same")

        assert (first.status_code, second.status_code) == (201, 201)
        assert first.json() == second.json()
        assert second["Idempotent-Replayed"] == "true"
        assert Job.objects.count() == 1


ACTIONS = {
    "offers": {"terms": TERMS},
    "agreement": {"terms_hash": HASH},
    "decline": {},
    "funding": {},
    "start": {},
    "deliveries": {"content": []},
    "approval": {},
    "revisions": {"reason": REASON},
    "abort": {"reason": "x"},
    "settlement-offers": {"seller_bps": 5_000},
    "dispute": {"reason": "other", "statement": "x" * 100, "requested_seller_bps": 0},
}


class TestStranger:
    """A foreign job is answered exactly as one that does not exist."""

    @pytest.mark.parametrize("action", ACTIONS)
    def test_cannot_act_on_a_job(self, trade, carol, client_for, action):
        job = trade.now("delivered")
        client = client_for(carol)
        before = everything()

        foreign = client.post(f"/jobs/{job.id}/{action}", ACTIONS[action])
        nothing = client.post(f"/jobs/{UNKNOWN}/{action}", ACTIONS[action])

        assert refused(foreign) == refused(nothing) == (404, "not_found", [])
        assert foreign.json() | {"request_id": ""} == nothing.json() | {"request_id": ""}
        assert everything() == before

    @pytest.mark.parametrize("path", ["", "/timeline", "/deliveries", "/deliveries/1", "/deliveries/1/file"])
    def test_cannot_read_a_job(self, trade, carol, client_for, path):
        job = trade.now("delivered")
        client = client_for(carol)

        foreign, nothing = client.get(f"/jobs/{job.id}{path}"), client.get(f"/jobs/{UNKNOWN}{path}")

        assert refused(foreign) == refused(nothing) == (404, "not_found", [])
        assert foreign.json() | {"request_id": ""} == nothing.json() | {"request_id": ""}

    def test_lists_nobody_elses_jobs(self, trade, carol, client_for):
        trade.now("delivered")

        assert client_for(carol).get("/jobs").json() == {"data": [], "next_cursor": None}

    def test_hears_nothing_of_them(self, trade, carol, client_for):
        trade.now("delivered")

        assert client_for(carol).get("/events").json()["data"] == []

    def test_cannot_change_a_listing(self, trade, carol, client_for):
        made = client_for(trade.seller).post("/listings", LISTING).json()
        client_for(trade.seller).patch(f"/listings/{made['id']}", {"status": "paused"})
        client = client_for(carol)

        for foreign, nothing in [
            (
                client.patch(f"/listings/{made['id']}", {"price": "2"}),
                client.patch(f"/listings/{UNKNOWN}", {"price": "2"}),
            ),
            (client.get(f"/listings/{made['id']}"), client.get(f"/listings/{UNKNOWN}")),
        ]:
            assert refused(foreign) == refused(nothing) == (404, "not_found", [])


class TestToken:
    @pytest.mark.parametrize("action", ACTIONS)
    def test_is_needed_for_every_action(self, trade, action):
        job = trade.now("delivered")

        answer = ApiClient().post(f"/jobs/{job.id}/{action}", ACTIONS[action])

        assert refused(answer) == (401, "unauthenticated", [])

    @pytest.mark.parametrize("action", ACTIONS)
    def test_needs_the_scope_of_the_action(self, trade, client_for, action):
        job = trade.now("delivered")
        client = client_for(trade.client, ["jobs:read", "profile:write"])
        before = everything()

        answer = client.post(f"/jobs/{job.id}/{action}", ACTIONS[action])

        assert refused(answer)[:2] == (403, "scope_missing")
        assert everything() == before

    @pytest.mark.parametrize("path", ["/jobs", "/jobs/{}", "/jobs/{}/timeline", "/jobs/{}/deliveries"])
    def test_needs_the_scope_to_read(self, trade, client_for, path):
        job = trade.now("delivered")

        answer = client_for(trade.client, ["jobs:write"]).get(path.format(job.id))

        assert refused(answer)[:2] == (403, "scope_missing")


class TestAddress:
    @pytest.mark.parametrize(
        "path",
        [
            "/jobs/1",
            "/jobs/not-an-id",
            "/jobs/01900000-0000-7000-8000-00000000000g",
            "/jobs/%00",
            "/jobs/../../etc/passwd",
            "/jobs/01900000-0000-7000-8000-000000000000/nothing",
        ],
    )
    def test_that_is_none_is_not_found(self, alice, client_for, path):
        assert client_for(alice).get(path).status_code == 404

    @pytest.mark.parametrize(
        ("asked", "pointer"),
        [
            ({"role": "moderator"}, "/role"),
            ({"state": "lost"}, "/state"),
            ({"limit": "1000"}, "/limit"),
            ({"cursor": "!!!"}, "/cursor"),
            ({"cursor": "WyIxIl0"}, "/cursor"),
        ],
    )
    def test_asks_for_a_list_that_is_none(self, alice, client_for, asked, pointer):
        answer = client_for(alice).get("/jobs", **asked)

        assert refused(answer) == (400, "invalid_request", [pointer])

    @pytest.mark.parametrize("method", ["put", "delete", "patch"])
    def test_does_not_take_another_method(self, trade, client_for, method):
        job = trade.now("agreed")
        client = client_for(trade.client)

        answer = getattr(client.http, method)(f"/v1/jobs/{job.id}/funding", headers=client._headers())

        assert refused(answer)[:2] == (405, "method_not_allowed")
        assert Job.objects.get().state == "agreed"
