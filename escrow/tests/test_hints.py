"""Hints: anybody may point at any transaction, as often and in as many spellings as they like."""

import itertools
import secrets

import pytest
from django.core.cache import cache

from accounts import alerts
from escrow import deposit_addresses, scans
from escrow.chain import rpc, usdc
from escrow.models import Deposit, Outflow
from escrow.tests.chain import UNITS


@pytest.fixture(autouse=True)
def no_hint_before() -> None:
    cache.delete("deposit-hint-scan")


@pytest.fixture
def rung(monkeypatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr("escrow.tasks.look_up_deposit.delay", found.append)
    return found


def spellings(tx_hash: bytes) -> list[str]:
    """Sixteen ways to write one hash."""
    text = tx_hash.hex()
    some = {"0x" + text, "0X" + text, "0x" + text.upper(), "0X" + text.upper()}
    letters = [n for n, digit in enumerate(text) if digit.isalpha()]
    for n in itertools.islice(letters, 12):
        some.add("0x" + text[:n] + text[n].upper() + text[n + 1 :])
    return sorted(some)


class TestOfOneTransaction:
    def test_sixteen_spellings_at_once_are_one_look_up(self, alice, client_for, rung, race):
        tx_hash = bytes.fromhex("abcdef" * 2) + secrets.token_bytes(26)
        told = spellings(tx_hash)
        clients = [client_for(alice) for _ in told]

        answers = race(
            *[
                lambda client=client, text=text: client.post("/wallet/deposit-hints", {"tx_hash": text})
                for client, text in zip(clients, told, strict=True)
            ]
        )

        assert len(told) == 16
        assert [answer.status_code for answer in answers] == [202] * 16
        assert rung == [tx_hash.hex()]

    def test_with_redis_away_is_taken_all_the_same(self, transactional_db, alice, client_for, monkeypatch):
        import redis

        def away(*args, **kwargs):
            raise redis.ConnectionError("refused")

        client = client_for(alice)
        monkeypatch.setattr("escrow.api.deposits.cache.add", away)

        assert client.post("/wallet/deposit-hints", {"tx_hash": "0x" + "ab" * 32}).status_code == 202

    def test_with_the_broker_away_is_taken_all_the_same(self, transactional_db, alice, client_for, monkeypatch):
        from kombu.exceptions import OperationalError

        def away(*args, **kwargs):
            raise OperationalError("refused")

        monkeypatch.setattr("escrow.tasks.look_up_deposit.delay", away)

        answer = client_for(alice).post("/wallet/deposit-hints", {"tx_hash": "0x" + secrets.token_hex(32)})

        assert answer.status_code == 202


class TestHinted:
    def test_different_ones_ring_one_scan_a_second_between_them(self, chain, treasury_rows, monkeypatch):
        monkeypatch.setattr(scans, "HINTED_SCAN_SECONDS", 60)
        scanned, looked_up = [], []
        monkeypatch.setattr(scans, "scan", lambda: scanned.append(1))
        monkeypatch.setattr(scans, "look_up", looked_up.append)
        hashes = [secrets.token_bytes(32) for _ in range(16)]

        for tx_hash in hashes:
            scans.hinted(tx_hash)

        assert scanned == [1]
        assert looked_up == hashes

    def test_finds_a_deposit_that_was_not_read_yet(self, chain, alice, pay_in):
        tx_hash = pay_in(alice, 5 * UNITS)

        scans.hinted(tx_hash)

        assert Deposit.objects.get().amount_units == 5 * UNITS

    def test_of_what_touches_none_of_ours_writes_nothing(self, chain, alice, treasury_rows):
        deposit_addresses.of(alice)
        chain.mint(chain.faucet, 9 * UNITS)
        receipt = chain.do(chain.usdc, usdc.transfer_call(secrets.token_bytes(20), 4 * UNITS))
        scans.scan()

        assert scans.look_up(rpc.raw(receipt["transactionHash"])) == 0
        assert not Deposit.objects.exists()
        assert not Outflow.objects.exists()

    def test_of_what_is_on_no_chain_writes_nothing_and_worries_nobody(self, chain, treasury_rows):
        assert scans.hinted(secrets.token_bytes(32)) == 0

        assert not Deposit.objects.exists()
        assert not alerts.is_sounding("chain_unreadable")

    def test_of_another_agents_deposit_gives_it_to_that_agent(self, chain, alice, bob, pay_in, client_for):
        tx_hash = pay_in(bob, 5 * UNITS)
        scans.scan()

        assert scans.look_up(tx_hash) == 0
        assert Deposit.objects.get().agent == bob
