"""Logs of a token that writes what it likes: only a plain Transfer counts, for what it says and no more."""

import secrets

import pytest

from accounts import pauses
from accounts.models import User
from escrow import deposit_addresses, deposits, ledger, scans
from escrow.chain import rpc, usdc
from escrow.models import Deposit, Outflow
from escrow.tests.chain import UNITS

State = Deposit.State

SOURCE = """
# pragma version 0.4.3

@external
def write(topics: DynArray[bytes32, 4], data: Bytes[96]):
    if len(topics) == 0:
        raw_log([], data)
    elif len(topics) == 1:
        raw_log([topics[0]], data)
    elif len(topics) == 2:
        raw_log([topics[0], topics[1]], data)
    elif len(topics) == 3:
        raw_log([topics[0], topics[1], topics[2]], data)
    else:
        raw_log([topics[0], topics[1], topics[2], topics[3]], data)

@external
@view
def balanceOf(owner: address) -> uint256:
    return 0
"""


def word(value: int | bytes) -> bytes:
    return usdc._word(value)


@pytest.fixture
def write(chain, settings, treasury_rows):
    """A token, taken for USDC, that writes the logs a test wants; its balances are all zero."""
    import vyper

    code = rpc.raw(vyper.compile_code(SOURCE, output_formats=["bytecode"])["bytecode"])
    token = chain.create(code)
    settings.CHAIN_ID = chain.chain_id
    settings.USDC_ADDRESS = rpc.text(token)
    settings.DEPOSIT_FACTORY_ADDRESS = chain.deployed["factory"]

    def write(*topics: bytes, data: bytes) -> None:
        padded = data + bytes(-len(data) % 32)
        call = usdc._selector("write(bytes32[],bytes)") + word(64) + word(96 + 32 * len(topics))
        call += word(len(topics)) + b"".join(topics) + word(len(data)) + padded
        chain.do(token, call)

    return write


def read_and_credit(chain) -> None:
    chain.finalize()
    scans.scan()
    deposits.credit_due()


class TestScan:
    def test_credits_what_a_plain_one_says_though_the_balance_says_less(self, chain, alice, write):
        own = deposit_addresses.of(alice).address
        write(usdc.TRANSFER, word(chain.faucet), word(own), data=word(50 * UNITS))

        read_and_credit(chain)

        assert ledger.balance("available", str(alice.id)) == 50 * UNITS

    def test_of_a_fee_that_is_charged_credits_what_arrived(self, chain, alice, write):
        own = deposit_addresses.of(alice).address
        write(usdc.TRANSFER, word(chain.faucet), word(own), data=word(49 * UNITS))
        write(usdc.TRANSFER, word(chain.faucet), word(secrets.token_bytes(20)), data=word(1 * UNITS))

        read_and_credit(chain)

        assert ledger.balance("available", str(alice.id)) == 49 * UNITS

    @pytest.mark.parametrize(
        "odd",
        [
            "no topics",
            "another event",
            "one address short",
            "a topic too many",
            "no amount",
            "two amounts",
            "an amount cut short",
            "more than there can be",
            "the most that fits a word",
            "the least that does not fit a row",
            "nothing",
            "more than an address as receiver",
            "more than an address as sender",
        ],
    )
    @pytest.mark.parametrize("filtered", [True, False])
    def test_ignores_what_is_no_plain_transfer(self, chain, alice, write, odd, filtered, monkeypatch):
        if not filtered:
            monkeypatch.setattr(scans, "FILTERED", -1)
        own, ours = word(deposit_addresses.of(alice).address), word(chain.treasury)
        plain, amount = [usdc.TRANSFER, ours[:12] + chain.faucet, own], word(5 * UNITS)
        topics, data = {
            "no topics": ([], amount),
            "another event": ([usdc.AUTHORIZATION_USED, *plain[1:]], amount),
            "one address short": (plain[:2], own + amount),
            "a topic too many": ([*plain, amount], b""),
            "no amount": (plain, b""),
            "two amounts": (plain, amount + amount),
            "an amount cut short": (plain, amount[:31]),
            "more than there can be": (plain, word(2**200)),
            "the most that fits a word": (plain, word(2**256 - 1)),
            "the least that does not fit a row": (plain, word(2**63)),
            "nothing": (plain, word(0)),
            "more than an address as receiver": ([*plain[:2], b"\1" + own[1:]], amount),
            "more than an address as sender": ([plain[0], b"\1" + ours[1:], own], amount),
        }[odd]
        write(*topics, data=data)
        write(*plain, data=word(2 * UNITS))

        read_and_credit(chain)

        assert [row.amount_units for row in Deposit.objects.all()] == [2 * UNITS]
        assert ledger.balance("available", str(alice.id)) == 2 * UNITS
        assert not Outflow.objects.exists()

    def test_ignores_what_was_removed(self, chain, alice, pay_in, liar):
        def removed(request, answer):
            return {**answer, "result": [{**log, "removed": True} for log in answer["result"]]}

        pay_in(alice, 5 * UNITS)
        liar.fault("eth_getLogs", removed)

        scans.scan()

        assert not Deposit.objects.exists()

    def test_of_one_log_shown_as_two_transfers_believes_neither(self, chain, alice, pay_in, liar):
        def doubled(request, answer):
            others = [{**log, "data": rpc.text(word(1))} for log in answer["result"]]
            return {**answer, "result": answer["result"] + others}

        pay_in(alice, 5 * UNITS)
        liar.fault("eth_getLogs", doubled)

        with pytest.raises(rpc.ChainNotTrusted) as refusal:
            scans.scan()

        assert refusal.value.reason == "log_twice"
        assert not Deposit.objects.exists()

    def test_of_another_branch_than_the_headers_believes_none(self, chain, alice, pay_in, liar):
        def elsewhere(request, answer):
            return {**answer, "result": [{**log, "blockHash": "0x" + "ab" * 32} for log in answer["result"]]}

        scans.scan()
        pay_in(alice, 5 * UNITS)
        liar.fault("eth_getLogs", elsewhere)

        with pytest.raises(rpc.ChainNotTrusted) as refusal:
            scans.scan()

        assert refusal.value.reason == "branches_mixed"
        assert not Deposit.objects.exists()


class TestPause:
    def test_of_deposits_writes_them_down_and_credits_none(self, chain, alice, pay_in):
        pauses.pause("deposits", reason="to look at the node", cause="test")
        pay_in(alice, 50 * UNITS)
        for _ in range(3):
            pay_in(alice, 400_000)

        read_and_credit(chain)

        assert Deposit.objects.exclude(posted_to="").count() == 0
        assert Deposit.objects.count() == 4
        assert ledger.balance("available", str(alice.id)) == 0

    def test_of_deposits_takes_back_what_a_reorg_took(self, chain, alice, pay_in):
        scans.scan()
        pay_in(alice, 50 * UNITS)
        chain.mine(5)
        scans.scan()
        deposits.credit_due()
        pauses.pause("deposits", reason="to look at the node", cause="test")

        chain.reorg(6)
        scans.scan()

        assert ledger.balance("available", str(alice.id)) == 0
        assert Deposit.objects.get().state == State.ORPHANED

    def test_over_all_are_credited(self, chain, alice, pay_in):
        somebody = User.objects.create(username="root", is_staff=True, is_superuser=True)
        pauses.pause("deposits", reason="to look at the node", cause="test")
        pay_in(alice, 50 * UNITS)
        read_and_credit(chain)
        pauses.resume("deposits", by=somebody, reason="it is in order")

        deposits.credit_due()

        assert ledger.balance("available", str(alice.id)) == 50 * UNITS
