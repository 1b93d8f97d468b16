"""A preview is the action itself, rolled back: it says what will be posted, and leaves nothing."""

import pytest
from django.apps import apps

from accounts.edge.fields import units_from_text, units_to_text
from accounts.models import Agent
from escrow import ledger
from escrow.models import Entry
from marketplace import effects, settlements
from marketplace.api import rendering
from marketplace.lifecycle import Role
from marketplace.models import Job
from marketplace.tests.trades import PRICE, REASON, TERMS

pytestmark = pytest.mark.django_db

# state, who, path, body, what it posts, the state after it
ACTIONS = {
    "fund": ("agreed", "client", "funding", {}, "funded"),
    "start": ("funded", "seller", "start", {}, "in_progress"),
    "deliver": ("in_progress", "seller", "deliveries", {"content": {"a": 1}}, "delivered"),
    "request_revision": ("delivered", "client", "revisions", {"reason": REASON}, "revising"),
    "approve": ("delivered", "client", "approval", {}, "completed"),
    "abort by client": ("in_progress", "client", "abort", {"reason": "no need"}, "cancelled"),
    "abort by seller": ("in_progress", "seller", "abort", {"reason": "cannot"}, "cancelled"),
    "decline": ("agreed", "seller", "decline", {}, "cancelled"),
    "counter": ("negotiating", "seller", "offers", {"terms": TERMS | {"price": "20"}}, "negotiating"),
}
POSTED = {
    "fund": {"client.available": "-12.345678", "seller.available": "-3.000001", "job.hold": "12.345678",
             "job.bond": "3.000001"},
    "approve": {"seller.available": "15.222223", "platform.fees": "0.123456", "job.hold": "-12.345678",
                "job.bond": "-3.000001"},
    "abort by client": {"client.available": "10.345579", "seller.available": "4.980100", "platform.fees": "0.020000",
                        "job.hold": "-12.345678", "job.bond": "-3.000001"},
    "abort by seller": {"client.available": "15.345679", "job.hold": "-12.345678", "job.bond": "-3.000001"},
}  # fmt: skip


def everything():
    """Count the rows of every table, and read what changes in place."""
    counted = {model.__name__: model.objects.count() for model in apps.get_models() if model._meta.managed}
    balances = list(apps.get_model("escrow", "LedgerAccount").objects.order_by("id").values())
    return counted, balances, list(Job.objects.order_by("id").values())


def by_account(rendered):
    return {effect["account"]: effect["amount"] for effect in rendered}


def posted_since(last_entry, job):
    """Read the entries that were posted, named as the parties know the accounts."""
    rows = Entry.objects.filter(id__gt=last_entry).select_related("account")
    moves = [ledger.Move(row.account.kind, row.account.owner_key, row.amount) for row in rows]
    return by_account(effect.rendered() for effect in effects.named(job, moves))


def newest_entry():
    return Entry.objects.order_by("-id").values_list("id", flat=True).first() or 0


class TestPreview:
    @pytest.mark.parametrize("name", ACTIONS)
    def test_says_what_the_action_then_does(self, trade, client_for, name):
        state, who, path, body, after = ACTIONS[name]
        job = trade.now(state)
        client = client_for(getattr(trade, who))
        last = newest_entry()

        preview = client.preview(f"/jobs/{job.id}/{path}", body).json()
        done = client.post(f"/jobs/{job.id}/{path}", body)

        assert done.status_code in (200, 201), done.content
        assert preview["allowed"] is True
        assert preview["refusal"] is None
        assert preview["next_state"] == done.json()["state"] == after
        assert by_account(preview["effects"]) == posted_since(last, job) == POSTED.get(name, {})
        deadline = done.json()["deadline"]
        assert (preview["deadline"] or {}).keys() == (deadline or {}).keys()
        if deadline:
            assert (preview["deadline"]["action"], preview["deadline"]["effect"]) == (
                deadline["action"], deadline["effect"],
            )  # fmt: skip

    @pytest.mark.parametrize("name", ACTIONS)
    def test_leaves_nothing(self, trade, client_for, name):
        state, who, path, body, _ = ACTIONS[name]
        job = trade.now(state)
        client = client_for(getattr(trade, who))
        before = everything()

        answer = client.preview(f"/jobs/{job.id}/{path}", body)

        assert answer.status_code == 200
        assert everything() == before

    @pytest.mark.parametrize("name", ACTIONS)
    def test_needs_no_key_and_keeps_none(self, trade, client_for, name):
        state, who, path, body, _ = ACTIONS[name]
        job = trade.now(state)
        client = client_for(getattr(trade, who))

        client.post(f"/jobs/{job.id}/{path}?preview=true", body, key="mine")
        done = client.post(f"/jobs/{job.id}/{path}", body, key="mine")

        assert done.status_code in (200, 201)
        assert "Idempotent-Replayed" not in done

    def test_of_a_proposal_leaves_no_job(self, trade, client_for):
        preview = client_for(trade.client).preview("/jobs", {"seller": "bob", "terms": TERMS}).json()

        assert (preview["allowed"], preview["next_state"]) == (True, "negotiating")
        assert not Job.objects.exists()

    @pytest.mark.parametrize(
        ("state", "who", "path", "body", "code"),
        [
            ("delivered", "seller", "approval", {}, "transition_not_allowed"),
            ("completed", "client", "approval", {}, "transition_not_allowed"),
            ("negotiating", "client", "agreement", {"terms_hash": "sha256:0"}, "transition_not_allowed"),
            ("negotiating", "seller", "agreement", {"terms_hash": "sha256:0"}, "terms_changed"),
        ],
    )
    def test_says_why_not(self, trade, client_for, state, who, path, body, code):
        job = trade.now(state)
        client = client_for(getattr(trade, who))
        before = everything()

        preview = client.preview(f"/jobs/{job.id}/{path}", body)
        refused = client.post(f"/jobs/{job.id}/{path}", body)

        assert preview.status_code == 200
        assert preview.json()["refusal"] | {"request_id": ""} == refused.json() | {"request_id": ""}
        assert preview.json() | {"refusal": None} == {
            "allowed": False, "refusal": None, "next_state": None, "effects": [], "deadline": None,
        }  # fmt: skip
        assert refused.json()["code"] == code
        assert everything() == before

    @pytest.mark.parametrize(
        ("price", "bond", "code"), [("100.000001", "0", "insufficient_funds"), ("60", "50.000001", "bond_unavailable")]
    )
    def test_says_that_money_is_missing(self, trade, client_for, price, bond, code):
        job = trade.now("agreed", price=price, seller_bond=bond)
        client = client_for(trade.client)
        before = everything()

        preview = client.preview(f"/jobs/{job.id}/funding").json()

        assert (preview["allowed"], preview["refusal"]["code"]) == (False, code)
        assert everything() == before

    def test_tells_a_suspended_agent_so(self, trade, client_for):
        job = trade.now("agreed")
        Agent.objects.filter(pk=trade.seller.pk).update(status="suspended")

        preview = client_for(trade.client).preview(f"/jobs/{job.id}/funding").json()

        assert preview["refusal"]["code"] == "agent_not_active"

    def test_refuses_a_bad_request_as_ever(self, trade, client_for):
        job = trade.now("in_progress")

        assert client_for(trade.client).preview(f"/jobs/{job.id}/abort", {}).status_code == 400

    def test_is_not_shown_to_strangers(self, trade, carol, client_for):
        job = trade.now("delivered")

        assert client_for(carol).preview(f"/jobs/{job.id}/approval").status_code == 404

    def test_needs_the_scope(self, trade, client_for):
        job = trade.now("delivered")

        assert client_for(trade.client, ["jobs:read"]).preview(f"/jobs/{job.id}/approval").status_code == 403

    def test_of_a_settlement_is_the_split_that_is_posted(self, trade):
        job = trade.job("delivered")
        settlements.offer(job.id, by=trade.seller, seller_bps=3_333, at=trade.at)
        last = newest_entry()

        with ledger.recording() as moves:
            job = settlements.offer(job.id, by=trade.client, seller_bps=3_335, at=trade.at)

        share = PRICE * 3_334 // 10_000
        assert by_account(e.rendered() for e in effects.named(job, moves)) == posted_since(last, job) == {
            "job.hold": "-12.345678",
            "job.bond": "-3.000001",
            "seller.available": units_to_text(share - share // 100 + 3_000_001),
            "platform.fees": units_to_text(share // 100),
            "client.available": units_to_text(PRICE - share),
        }  # fmt: skip


class TestAvailableActions:
    @pytest.mark.parametrize("name", ["fund", "approve", "abort by client", "abort by seller"])
    def test_announce_exactly_what_is_posted(self, trade, client_for, name):
        state, who, path, body, _ = ACTIONS[name]
        job = trade.now(state)
        client = client_for(getattr(trade, who))
        offered = {a["action"]: a for a in client.get(f"/jobs/{job.id}").json()["available_actions"]}
        announced = offered[name.partition(" ")[0]]
        last = newest_entry()

        done = client.post(announced["href"].removeprefix("/v1"), body)

        assert done.status_code == 200
        assert (announced["method"], announced["href"]) == ("POST", f"/v1/jobs/{job.id}/{path}")
        assert by_account(announced["effects"]) == posted_since(last, job) == POSTED[name]

    @pytest.mark.parametrize("state", ["agreed", "funded", "in_progress", "delivered", "revising", "disputed"])
    @pytest.mark.parametrize("role", ["client", "seller"])
    def test_sum_to_nothing(self, trade, state, role):
        job = trade.job(state)

        shown = rendering.job(job, role=Role(role), at=trade.at)["available_actions"]

        for action in shown:
            amounts = [effect["amount"] for effect in action["effects"]]
            assert sum(units_from_text(a.lstrip("-")) * (-1 if a[0] == "-" else 1) for a in amounts) == 0

    def test_of_the_clock_are_announced_in_words(self, trade, client_for):
        job = trade.now("in_progress")

        deadline = client_for(trade.client).get(f"/jobs/{job.id}").json()["deadline"]

        assert deadline["action"] == "fail"
        assert deadline["effect"] == (
            "If nothing is delivered by then, the job fails: 12.345678 USDC go back to the client, "
            "and the seller's bond of 3.000001 USDC goes to the client."
        )
