"""
Whole trades over HTTP between two programs and a live server: a process of its own, on the same database.

Every answer is checked against the contract that the server itself publishes.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from django.conf import settings
from django.db import connection

from accounts.models import Agent
from config.devstack import ports
from config.tests.programs import Contract, Program
from escrow import ledger
from marketplace import tasks

pytestmark = pytest.mark.django_db(transaction=True)
TERMS = {
    "price": "10",
    "title": "Translate a page",
    "requirements": {"into": "German", "words": 250},
    "delivery_seconds": 3_600,
    "seller_bond": "1",
    "client_abort_fee": "2",
}


@pytest.fixture(scope="module")
def server(django_db_setup, tmp_path_factory):
    """Run the web process as the stack runs it, on the database of the tests; deliveries may be due in seconds."""
    port = ports.any_free()
    base_url, log = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("server") / "log"
    database = connection.settings_dict
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database).replace(":@", "@")
    environment = os.environ | {"DATABASE_URL": url, "BAILEE_PROCESS": "web", "MIN_DELIVERY_SECONDS": "1"}
    command = [Path(sys.executable).parent / "granian", "--interface", "wsgi", "config.wsgi:application"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--blocking-threads", "4"],
            cwd=settings.BASE_DIR,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(f"{base_url}/healthz", process, log)
        yield base_url
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(address, process, log):
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            if httpx2.get(address).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def contract(server):
    return Contract(httpx2.get(f"{server}/v1/openapi.json").json())


@pytest.fixture
def programs(server, contract, credit):
    """Two programs that registered with keys of their own, and whose deposits were credited."""
    client, seller = Program(server, contract, "client-bot"), Program(server, contract, "seller-bot")
    for program, units in ((client, 100_000_000), (seller, 5_000_000)):
        program.register()
        credit(Agent.objects.get(handle=program.handle), units)
    return client, seller


def agreed(client, seller, **fields):
    """Propose and agree."""
    job = client.post("/jobs", {"seller": seller.handle, "terms": TERMS | fields}, expect=201)
    return seller.post(f"/jobs/{job['id']}/agreement", {"terms_hash": job["offer"]["terms_hash"]})


def funded(client, seller, **fields):
    return client.post(f"/jobs/{agreed(client, seller, **fields)['id']}/funding")


def sha256(body):
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def wallets(*programs):
    return [program.get("/wallet")["available"] for program in programs]


def told(program, *, until):
    """Follow the feed; an event appears when no transaction that began before it is open any more, in any database."""
    heard, cursor, patience = [], {}, time.monotonic() + 60
    while until not in heard and time.monotonic() < patience:
        page = program.get("/events", **cursor)
        heard += [event["type"] for event in page["data"] if event["type"].startswith("job.")]
        cursor = {"after": page["next_cursor"]} if page["next_cursor"] else cursor
        time.sleep(0.05)
    return heard


class TestHappyTrade:
    def test_goes_from_a_listing_to_the_payment(self, programs):
        client, seller = programs
        listing = seller.post(
            "/listings",
            {"title": "Translations", "description": "Into German", "skills": ["german"], "price": "10",
             "delivery_seconds": 3_600},
            expect=201,
        )  # fmt: skip

        found = client.get("/listings", q="translation", skill="german")["data"]
        assert [row["id"] for row in found] == [listing["id"]]
        job = client.post(
            "/jobs",
            {"seller": found[0]["seller"]["id"], "listing_id": listing["id"], "terms": TERMS, "message": "Hello"},
            expect=201,
        )
        path = f"/jobs/{job['id']}"
        job = seller.post(f"{path}/offers", {"terms": TERMS | {"price": "12"}, "message": "A little more"}, expect=201)
        assert job["awaiting"] == "client"
        job = client.post(f"{path}/agreement", {"terms_hash": job["offer"]["terms_hash"]})
        preview = client.post(f"{path}/funding?preview=true")
        assert {e["account"]: e["amount"] for e in preview["effects"]}["client.available"] == "-12.000000"
        job = client.post(f"{path}/funding")
        assert (job["state"], job["money"]["held"]) == ("funded", "12.000000")
        seller.post(f"{path}/start")
        job = seller.post(f"{path}/deliveries", {"content": {"text": "Guten Tag"}, "note": "Here"}, expect=201)
        assert job["deadline"]["action"] == "auto_approve"
        read = client.get(f"{path}/deliveries/1")
        assert read["sha256"] == sha256(b'{"text":"Guten Tag"}')
        assert client.get(f"{path}/deliveries")["data"][0]["sha256"] == read["sha256"]
        job = client.post(f"{path}/approval")

        assert (job["state"], job["deadline"], job["available_actions"]) == ("completed", None, [])
        assert wallets(client, seller) == ["88.000000", "16.880000"]
        assert ledger.balance("fees", ledger.PLATFORM) == 120_000
        line = client.get(f"{path}/timeline")["data"]
        assert [step["action"] for step in line] == [
            "propose", "counter", "agree", "fund", "start", "deliver", "approve",
        ]  # fmt: skip
        assert told(seller, until="job.approved") == [
            "job.proposed", "job.countered", "job.agreed", "job.funded", "job.started", "job.delivered", "job.approved",
        ]  # fmt: skip
        assert [entry["amount"] for entry in seller.get("/wallet/statement")["data"]] == [
            "12.880000", "-1.000000", "5.000000",
        ]  # fmt: skip
        assert client.get("/agents/seller-bot")["reputation"]["completed"] == 1

    def test_is_done_once_by_a_client_that_repeats_every_call(self, programs):
        client, seller = programs
        job = agreed(client, seller)
        path = f"/jobs/{job['id']}"

        first = client.post(f"{path}/funding", key="fund")
        again = client.post(f"{path}/funding", key="fund")

        assert first == again
        assert wallets(client, seller) == ["90.000000", "4.000000"]

    def test_delivers_a_file(self, programs):
        client, seller = programs
        path = f"/jobs/{funded(client, seller)['id']}"
        body = os.urandom(100_000)

        job = seller.send(
            "POST", f"{path}/deliveries", expect=201, files={"file": ("page.bin", body)}, data={"note": "Here"}
        ).json()
        file = client.send("GET", f"{path}/deliveries/1/file", expect=200)

        assert file.content == body
        assert job["deliveries"][0]["sha256"] == sha256(body)
        assert client.get(f"{path}/deliveries/1")["filename"] == "page.bin"


class TestRevision:
    def test_is_asked_for_delivered_and_approved(self, programs):
        client, seller = programs
        path = f"/jobs/{funded(client, seller)['id']}"
        seller.post(f"{path}/deliveries", {"content": {"text": "Guten"}}, expect=201)

        job = client.post(f"{path}/revisions", {"reason": "The second word is missing."}, expect=201)
        assert (job["state"], job["awaiting"], job["revisions_used"]) == ("revising", "seller", 1)
        job = seller.post(f"{path}/deliveries", {"content": {"text": "Guten Tag"}}, expect=201)
        assert [delivery["number"] for delivery in job["deliveries"]] == [1, 2]
        job = client.post(f"{path}/approval")

        assert job["state"] == "completed"
        assert wallets(client, seller) == ["90.000000", "14.900000"]
        revision = client.get(f"{path}/timeline")["data"][4]
        assert (revision["action"], revision["note"]) == ("request_revision", "The second word is missing.")


class TestAbort:
    def test_by_the_client_costs_the_fee_that_was_agreed(self, programs):
        client, seller = programs
        path = f"/jobs/{funded(client, seller)['id']}"
        offered = {action["action"]: action["effects"] for action in client.get(path)["available_actions"]}

        job = client.post(f"{path}/abort", {"reason": "No longer needed"})

        assert job["state"] == "cancelled"
        assert {"account": "client.available", "amount": "8.000000"} in offered["abort"]
        assert wallets(client, seller) == ["98.000000", "6.980000"]

    def test_by_the_seller_costs_the_bond(self, programs):
        client, seller = programs
        path = f"/jobs/{funded(client, seller)['id']}"

        seller.post(f"{path}/abort", {"reason": "I cannot"})

        assert wallets(client, seller) == ["101.000000", "4.000000"]


class TestExpiry:
    def test_gives_the_client_its_money_and_the_bond(self, programs):
        client, seller = programs
        job = funded(client, seller, delivery_seconds=1)
        assert job["deadline"]["effect"].startswith("If nothing is delivered by then, the job fails")
        time.sleep(1.1)

        late = seller.post(f"/jobs/{job['id']}/deliveries", {"content": []}, expect=409)
        tasks.enforce_deadlines()

        assert late["code"] == "transition_not_allowed"
        ended = client.get(f"/jobs/{job['id']}")
        assert (ended["state"], ended["deadline"]) == ("failed", None)
        assert client.get(f"/jobs/{job['id']}/timeline")["data"][-1]["by"] == "system"
        assert wallets(client, seller) == ["101.000000", "4.000000"]


class TestSettlement:
    def test_is_the_midpoint_of_two_that_cross(self, programs):
        client, seller = programs
        path = f"/jobs/{funded(client, seller)['id']}"
        seller.post(f"{path}/deliveries", {"content": {"text": "Guten"}}, expect=201)

        job = seller.post(f"{path}/settlement-offers", {"seller_bps": 8_000})
        assert job["settlement"] == {"by_seller": {"seller_bps": 8_000}}
        job = client.post(f"{path}/settlement-offers", {"seller_bps": 3_000})
        assert (job["state"], len(job["settlement"])) == ("delivered", 2)
        job = client.delete(f"{path}/settlement-offers")
        assert job["settlement"] == {"by_seller": {"seller_bps": 8_000}}
        seller.post(f"{path}/settlement-offers", {"seller_bps": 5_000})
        job = client.post(f"{path}/settlement-offers", {"seller_bps": 6_000})

        assert job["state"] == "resolved"
        assert wallets(client, seller) == ["94.500000", "10.445000"]


class TestRefusal:
    def test_is_a_problem_that_the_contract_names(self, programs, server, contract):
        client, seller = programs
        stranger = Program(server, contract, "stranger-bot")
        stranger.register()
        job = agreed(client, seller, price="100.5")
        path = f"/jobs/{job['id']}"

        refusals = [
            client.post(f"{path}/funding", expect=402),
            seller.post(f"{path}/funding", expect=409),
            stranger.post(f"{path}/funding", expect=404),
            client.post("/jobs", {"seller": seller.handle, "terms": TERMS | {"price": 10}}, expect=400),
            stranger.get(path, expect=404),
        ]

        assert [refusal["code"] for refusal in refusals] == [
            "insufficient_funds", "transition_not_allowed", "not_found", "invalid_request", "not_found",
        ]  # fmt: skip
        assert refusals[0]["short_by"] == "0.500000"
        assert refusals[3]["errors"][0]["pointer"] == "/terms/price"
