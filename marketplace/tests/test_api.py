"""Reading jobs: lists, one job, its time line; and what an answer may and may not show."""

import pytest

from accounts.models import Event
from marketplace import offers, settlements
from marketplace.tests.trades import REASON, TERMS, Trade, terms_of

pytestmark = pytest.mark.django_db
FIELDS = {
    "id", "revision", "state", "client", "seller", "listing_id", "offer", "agreed_terms_hash", "awaiting", "deadline",
    "money", "revisions_used", "deliveries", "settlement", "dispute_id", "available_actions", "created_at",
    "updated_at",
}  # fmt: skip


class TestJobs:
    def test_are_proposed_once_a_key_and_answered_alike_byte_for_byte(self, trade, client_for):
        client = client_for(trade.client)
        first = client.post("/jobs", {"seller": trade.seller.handle, "terms": TERMS}, key="once")
        again = client.post("/jobs", {"seller": trade.seller.handle, "terms": TERMS}, key="once")

        assert first.status_code == again.status_code == 201
        assert first.content == again.content
        assert len(client.get("/jobs").json()["data"]) == 1

    def test_lists_ones_own_newest_first(self, trade, client_for, carol):
        first, second = trade.now("negotiating"), trade.now("delivered")
        other = Trade(trade.client, carol, trade.at).now("negotiating")

        mine = client_for(trade.client).get("/jobs").json()["data"]
        theirs = client_for(trade.seller).get("/jobs").json()["data"]

        assert [job["id"] for job in mine] == [str(job.id) for job in (other, second, first)]
        assert [job["id"] for job in theirs] == [str(job.id) for job in (second, first)]

    def test_is_narrowed_by_role_and_state(self, trade, client_for):
        mine, theirs = trade.now("delivered"), Trade(trade.seller, trade.client, trade.at).now("negotiating")
        client = client_for(trade.client)

        def ids(**asked):
            return [job["id"] for job in client.get("/jobs", **asked).json()["data"]]

        assert ids(role="client") == [str(mine.id)]
        assert ids(role="seller") == [str(theirs.id)]
        assert ids(state="delivered") == [str(mine.id)]
        assert ids(role="seller", state="delivered") == []

    def test_is_read_page_by_page_while_jobs_are_added(self, trade, client_for):
        several = [str(trade.now("negotiating").id) for _ in range(5)]
        client, read, cursor = client_for(trade.client), [], {}

        while cursor is not None:
            answer = client.get("/jobs", limit=2, **cursor).json()
            read += [job["id"] for job in answer["data"]]
            cursor = {"cursor": answer["next_cursor"]} if answer["next_cursor"] else None
            trade.now("negotiating")

        assert read == several[::-1]

    def test_costs_the_same_however_many_there_are(self, trade, client_for, django_assert_num_queries):
        client = client_for(trade.client)
        trade.now("delivered")
        with django_assert_num_queries(5):
            client.get("/jobs")
        for _ in range(4):
            trade.now("delivered")

        with django_assert_num_queries(5):
            client.get("/jobs")


class TestJobById:
    def test_shows_the_same_as_the_action_before_it(self, trade, client_for):
        client = client_for(trade.client)
        made = client.post("/jobs", {"seller": "bob", "terms": TERMS, "message": "Hello"}).json()

        read = client.get(f"/jobs/{made['id']}").json()

        assert read == made
        assert read.keys() == FIELDS

    @pytest.mark.parametrize(
        ("state", "client_may", "seller_may"),
        [
            ("negotiating", ["decline"], ["counter", "agree", "decline"]),
            ("agreed", ["fund", "decline"], ["decline"]),
            ("funded", ["abort", "settle"], ["start", "deliver", "abort", "settle"]),
            ("in_progress", ["abort", "dispute", "settle"], ["deliver", "abort", "dispute", "settle"]),
            ("delivered", ["approve", "request_revision", "dispute", "settle"], ["settle"]),
            ("revising", ["dispute", "settle"], ["abort", "deliver", "dispute", "settle"]),
            ("disputed", ["settle"], ["settle"]),
            ("completed", [], []),
        ],
    )
    def test_offers_each_party_what_it_may_do(self, trade, client_for, state, client_may, seller_may):
        job = trade.now(state)

        def offered(agent):
            shown = client_for(agent).get(f"/jobs/{job.id}").json()
            return [action["action"] for action in shown["available_actions"]]

        assert (offered(trade.client), offered(trade.seller)) == (client_may, seller_may)

    @pytest.mark.parametrize(
        ("state", "held"), [("agreed", "0.000000"), ("funded", "12.345678"), ("completed", "0.000000")]
    )
    def test_says_what_is_held(self, trade, client_for, state, held):
        job = trade.now(state)

        money = client_for(trade.seller).get(f"/jobs/{job.id}").json()["money"]

        assert money == {"price": "12.345678", "bond": "3.000001", "held": held, "fee_bps": 100}

    def test_shows_both_settlement_offers(self, trade, client_for):
        job = trade.now("delivered")
        settlements.offer(job.id, by=trade.client, seller_bps=0)
        settlements.offer(job.id, by=trade.seller, seller_bps=9_000)

        shown = client_for(trade.client).get(f"/jobs/{job.id}").json()["settlement"]

        assert shown == {"by_client": {"seller_bps": 0}, "by_seller": {"seller_bps": 9_000}}

    def test_shows_hidden_characters_of_the_other_side(self, trade, client_for):
        client = client_for(trade.client)

        made = client.post("/jobs", {"seller": "bob", "terms": TERMS, "message": "pay\u202e me\u200b"}).json()

        assert made["offer"]["message"] == "pay\\u{202E} me\\u{200B}"


class TestTimeline:
    def test_tells_every_step_with_who_and_why(self, trade, client_for):
        client, seller = client_for(trade.client), client_for(trade.seller)
        job = trade.now("delivered")
        client.post(f"/jobs/{job.id}/revisions", {"reason": REASON})

        steps = seller.get(f"/jobs/{job.id}/timeline").json()["data"]

        assert [(step["revision"], step["action"], step["by"], step["from"], step["to"]) for step in steps] == [
            (1, "propose", "client", None, "negotiating"),
            (2, "agree", "seller", "negotiating", "agreed"),
            (3, "fund", "client", "agreed", "funded"),
            (4, "start", "seller", "funded", "in_progress"),
            (5, "deliver", "seller", "in_progress", "delivered"),
            (6, "request_revision", "client", "delivered", "revising"),
        ]
        assert [step.get("note") for step in steps] == [None] * 5 + [REASON]


class TestEvents:
    def test_name_the_job_its_state_and_revision(self, trade):
        job = offers.propose(trade.client, trade.seller, terms=terms_of(), at=trade.at)

        told = Event.objects.filter(type="job.proposed")

        assert {event.recipient.handle for event in told} == {"alice", "bob"}
        for event in told:
            assert event.data == {
                "job_id": str(job.id), "state": "negotiating", "revision": 1, "by": "client", "sequence": 1,
            }  # fmt: skip
        assert told[0].occurred_at == trade.at
