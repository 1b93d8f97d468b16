"""Deposits, address book and withdrawals as an agent's program meets them."""

import base64
import secrets
from datetime import timedelta

import pytest
from nacl.signing import SigningKey

from accounts import challenges, clock
from accounts.models import AgentKey
from escrow import deposit_addresses, deposits, scans
from escrow.chain import addresses, forwarders
from escrow.models import AddressBookEntry, Deposit, Withdrawal
from escrow.tests.chain import UNITS


@pytest.fixture
def key(alice):
    key = SigningKey.generate()
    then = clock.now() - timedelta(days=30)
    AgentKey.objects.create(agent=alice, public_key=bytes(key.verify_key), created_at=then)
    return key


@pytest.fixture
def confirmation(key):
    """Sign a fresh `confirm` challenge: what an added address needs."""

    def confirmation(**changed):
        challenge = challenges.issue(purpose="confirm", public_key=bytes(key.verify_key))
        signature = key.sign(challenge.message.encode()).signature
        sealed = base64.urlsafe_b64encode(signature).decode().rstrip("=")
        return {"challenge_id": str(challenge.pk), "signature": sealed, **changed}

    return confirmation


@pytest.fixture
def agent(chain, treasury_rows, alice, client_for):
    return client_for(alice)


def an_address() -> str:
    return addresses.to_text(secrets.token_bytes(20))


class TestDepositAddress:
    def test_tells_all_that_is_needed_to_check_it(self, agent, chain, alice):
        told = agent.get("/wallet/deposit-address").json()

        salt = bytes.fromhex(told["salt"][2:])
        assert addresses.to_text(forwarders.address_of(salt, factory=chain.factory)) == told["address"]
        assert told["chain_id"] == chain.chain_id
        assert told["token"] == chain.deployed["usdc"]
        assert told["factory"] == chain.deployed["factory"]
        assert told["minimum"] == "1.000000"
        assert "finalized" in told["credit_rule"]

    def test_without_a_chain_is_try_later(self, agent, settings, tmp_path):
        settings.STATE_DIR = tmp_path

        answer = agent.get("/wallet/deposit-address")

        assert (answer.status_code, answer.json()["code"]) == (503, "try_later")


class TestDeposits:
    def test_show_where_each_stands(self, agent, chain, alice, pay_in):
        tx_hash = pay_in(alice, 5 * UNITS)
        scans.scan()

        [row] = agent.get("/wallet/deposits").json()["data"]

        assert row["tx_hash"] == "0x" + tx_hash.hex()
        assert (row["amount"], row["state"], row["confirmations"]) == ("5.000000", "seen", 1)
        assert row["credited_at"] is None
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        row = agent.get(f"/wallet/deposits/{row['id']}").json()
        assert (row["state"], row["confirmations"]) == ("credited", 10)
        assert row["credited_at"].endswith("Z")
        assert agent.get("/wallet").json()["available"] == "5.000000"

    def test_of_others_are_not_there(self, agent, chain, bob, pay_in):
        pay_in(bob, 5 * UNITS)
        scans.scan()

        assert agent.get("/wallet/deposits").json()["data"] == []
        assert agent.get(f"/wallet/deposits/{Deposit.objects.get().pk}").status_code == 404


class TestHint:
    def test_is_taken_and_rings_once_in_ten_seconds_however_it_is_spelt(self, agent, monkeypatch, transactional_db):
        rung = []
        monkeypatch.setattr("escrow.tasks.look_up_deposit.delay", rung.append)
        tx_hash = secrets.token_bytes(32).hex()

        answers = [agent.post("/wallet/deposit-hints", {"tx_hash": f"0x{text}"}) for text in (tx_hash, tx_hash.upper())]

        assert [answer.status_code for answer in answers] == [202, 202]
        assert rung == [tx_hash]

    @pytest.mark.parametrize("given", ["", "0x12", "12" * 33, "0x" + "zz" * 32, 7, None])
    def test_that_is_no_hash_is_refused(self, agent, given):
        answer = agent.post("/wallet/deposit-hints", {"tx_hash": given})

        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/tx_hash")


class TestAddressBook:
    def test_an_address_is_added_by_a_signature_and_cools(self, agent, confirmation, settings):
        settings.WITHDRAWAL_COOLING_SECONDS = 3_600
        address = an_address()

        answer = agent.post("/wallet/addresses", confirmation(address=address, label="cold wallet"))

        assert answer.status_code == 201
        assert answer.json()["address"] == address
        assert answer.json()["usable_at"] > clock.now().isoformat()
        assert [row["id"] for row in agent.get("/wallet/addresses").json()["data"]] == [answer.json()["id"]]

    def test_without_a_signature_is_refused(self, agent, confirmation):
        given = confirmation(address=an_address(), signature=base64.urlsafe_b64encode(bytes(64)).decode().rstrip("="))

        answer = agent.post("/wallet/addresses", given)

        assert answer.status_code in (400, 401, 403)
        assert not AddressBookEntry.objects.exists()

    def test_a_challenge_adds_one_address(self, agent, confirmation):
        given = confirmation(address=an_address())
        agent.post("/wallet/addresses", given)

        answer = agent.post("/wallet/addresses", {**given, "address": an_address()})

        assert answer.json()["code"] == "challenge_spent"

    @pytest.mark.parametrize(
        "which", ["zero", "token", "factory", "treasury", "deposit", "checksum", "short", "number"]
    )
    def test_an_address_that_cannot_be_paid_is_refused(self, agent, chain, bob, confirmation, which):
        right = an_address()
        given = {
            "zero": "0x" + "00" * 20,
            "token": chain.deployed["usdc"],
            "factory": chain.deployed["factory"],
            "treasury": chain.deployed["treasury"],
            "deposit": addresses.to_text(deposit_addresses.of(bob).address),
            "checksum": "0x" + right[2:].swapcase(),
            "short": right[:-2],
            "number": 7,
        }[which]

        answer = agent.post("/wallet/addresses", confirmation(address=given))

        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/address")
        assert not AddressBookEntry.objects.exists()

    def test_the_same_address_twice_is_a_conflict_until_it_is_removed(self, agent, confirmation):
        address = an_address()
        first = agent.post("/wallet/addresses", confirmation(address=address)).json()
        again = agent.post("/wallet/addresses", confirmation(address=address.lower()))
        assert (again.status_code, again.json()["code"]) == (409, "address_known")

        assert agent.delete(f"/wallet/addresses/{first['id']}").status_code == 204
        assert agent.post("/wallet/addresses", confirmation(address=address)).status_code == 201

    def test_needs_the_scope(self, chain, alice, client_for, confirmation):
        answer = client_for(alice, ["wallet:read"]).post("/wallet/addresses", confirmation(address=an_address()))

        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


class TestWithdrawals:
    @pytest.fixture
    def book(self, agent, alice, credit, confirmation, settings):
        settings.WITHDRAWAL_COOLING_SECONDS = 0
        credit(alice, 100 * UNITS)
        return agent.post("/wallet/addresses", confirmation(address=an_address())).json()

    def test_are_asked_for_shown_and_called_off(self, agent, book):
        answer = agent.post("/wallet/withdrawals", {"amount": "40", "address_id": book["id"]})

        assert answer.status_code == 201
        asked = answer.json()
        assert (asked["amount"], asked["fee"], asked["state"]) == ("40.000000", "0.500000", "requested")
        assert (asked["address"], asked["tx_hash"]) == (book["address"], None)
        assert agent.get("/wallet").json()["withdrawing"] == "40.500000"
        assert agent.get(f"/wallet/withdrawals/{asked['id']}").json() == asked
        assert agent.get("/wallet/withdrawals").json()["data"] == [asked]

        gone = agent.delete(f"/wallet/withdrawals/{asked['id']}")
        assert gone.json()["state"] == "cancelled"
        assert agent.get("/wallet").json()["available"] == "100.000000"
        again = agent.delete(f"/wallet/withdrawals/{asked['id']}")
        assert (again.status_code, again.json()["code"]) == (409, "transition_not_allowed")

    def test_need_an_idempotency_key_and_answer_it_twice(self, agent, book):
        given = {"amount": "40", "address_id": book["id"]}
        assert agent.post("/wallet/withdrawals", given, key=None).json()["code"] == "idempotency_key_required"

        first, second = [agent.post("/wallet/withdrawals", given, key="once") for _ in range(2)]

        assert first.json() == second.json()
        assert second.headers["Idempotent-Replayed"] == "true"
        assert Withdrawal.objects.count() == 1

    @pytest.mark.parametrize(
        ("given", "status", "code"),
        [
            ({"amount": "0.999999"}, 400, "invalid_request"),
            ({"amount": 40}, 400, "invalid_request"),
            ({"amount": "40.0000001"}, 400, "invalid_request"),
            ({"amount": "99.6"}, 402, "insufficient_funds"),
            ({"address_id": "0199c6a0-0000-7000-8000-000000000000"}, 404, "not_found"),
            ({"address_id": "not an id"}, 400, "invalid_request"),
            ({"memo": "rent"}, 400, "invalid_request"),
        ],
    )
    def test_that_cannot_be_are_refused_and_nothing_is_held(self, agent, book, balance_of, alice, given, status, code):
        answer = agent.post("/wallet/withdrawals", {"amount": "40", "address_id": book["id"], **given})

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert balance_of("withdrawing", alice) == 0

    def test_to_an_address_that_cools_tell_when_it_is_usable(self, agent, book):
        AddressBookEntry.objects.update(usable_at=clock.now() + timedelta(hours=1))

        answer = agent.post("/wallet/withdrawals", {"amount": "40", "address_id": book["id"]})

        assert (answer.status_code, answer.json()["code"]) == (409, "address_cooling")
        assert answer.json()["usable_at"] > clock.now().isoformat()

    def test_of_others_are_not_there(self, agent, book, bob, client_for):
        asked = agent.post("/wallet/withdrawals", {"amount": "40", "address_id": book["id"]}).json()
        other = client_for(bob)

        assert other.get(f"/wallet/withdrawals/{asked['id']}").status_code == 404
        assert other.delete(f"/wallet/withdrawals/{asked['id']}").status_code == 404

    def test_count_against_the_caps_of_the_token(self, agent, book):
        from accounts.models import Token

        Token.objects.update(max_per_job_units=30 * UNITS)

        answer = agent.post("/wallet/withdrawals", {"amount": "40", "address_id": book["id"]})

        assert (answer.status_code, answer.json()["code"]) == (403, "spending_cap_exceeded")
