"""A large deposit is believed when two nodes show it: every way in which the second may not."""

import secrets

import pytest

from accounts import alerts
from accounts.models import Alert
from escrow import deposits, ledger, opinions, payouts, scans
from escrow.chain import rpc
from escrow.models import Deposit
from escrow.tests.chain import UNITS
from escrow.tests.liar import liar

State = Deposit.State
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def second(chain, settings):
    """Somebody else's node, which may lie; asked about deposits of 50 USDC and more."""
    settings.DEPOSIT_SECOND_OPINION_ABOVE_UNITS = 50 * UNITS
    with liar(chain.url) as proxy:
        settings.CHAIN_SECOND_RPC_URL = proxy.url
        yield proxy


@pytest.fixture
def large(chain, alice, pay_in, second) -> Deposit:
    pay_in(alice, 50 * UNITS)
    chain.finalize()
    scans.scan()
    return Deposit.objects.get()


def state_of(deposit: Deposit) -> str:
    deposit.refresh_from_db()
    return deposit.state


def receipt_with(**changes):
    return lambda request, answer: {**answer, "result": {**answer["result"], **changes}}


def block_with(tag: str, **changes):
    def rewrite(request, answer):
        if request["params"][0] != tag:
            return answer
        return {**answer, "result": {**answer["result"], **changes}}

    return rewrite


class TestAgrees:
    def test_then_it_is_credited(self, large, second, alice):
        deposits.credit_due()

        assert state_of(large) == State.CREDITED
        assert second.calls["eth_getTransactionReceipt"] == 1
        assert not alerts.is_sounding("second_opinion")

    def test_about_small_ones_it_is_not_asked(self, chain, alice, pay_in, second):
        pay_in(alice, 50 * UNITS - 1)
        chain.finalize()
        scans.scan()

        assert deposits.credit_due() == 1
        assert not second.calls

    def test_where_there_is_none_nobody_is_asked(self, large, settings, second):
        settings.CHAIN_SECOND_RPC_URL = ""

        deposits.credit_due()

        assert state_of(large) == State.CREDITED
        assert not second.calls


class TestDisagrees:
    @pytest.mark.parametrize(
        ("method", "lie"),
        [
            ("eth_chainId", lambda request, answer: {**answer, "result": "0x1"}),
            ("eth_getTransactionReceipt", lambda request, answer: {**answer, "result": None}),
            ("eth_getTransactionReceipt", receipt_with(blockHash="0x" + "ab" * 32)),
            ("eth_getTransactionReceipt", receipt_with(status="0x0")),
            ("eth_getTransactionReceipt", receipt_with(logs=[])),
            ("eth_getTransactionReceipt", receipt_with(transactionHash="0x" + "ab" * 32)),
            ("eth_getTransactionReceipt", lambda request, answer: {**answer, "result": "what?"}),
            ("eth_getTransactionReceipt", "refuse"),
            ("eth_getBlockByNumber", block_with("finalized", number="0x0", timestamp="0x0")),
            ("eth_getBlockByNumber", block_with("finalized", number="0xffffffff")),
            ("*", "rate_limit"),
            ("*", "truncate"),
            ("*", "refuse"),
        ],
    )
    def test_then_it_waits_and_that_is_told_until_both_show_it(self, large, second, alice, method, lie):
        second.fault(method, lie)
        deposits.credit_due()
        assert state_of(large) == State.SEEN
        assert ledger.balance("available", str(alice.id)) == 0
        assert alerts.is_sounding("second_opinion", str(large.id))

        second.honest()
        deposits.credit_due()

        assert state_of(large) == State.CREDITED
        assert not alerts.is_sounding("second_opinion")

    def test_of_another_amount_in_the_same_log_waits(self, large, second):
        def less(request, answer):
            for log in answer["result"]["logs"]:
                log["data"] = "0x" + (1).to_bytes(32).hex()
            return answer

        second.fault("eth_getTransactionReceipt", less)

        deposits.credit_due()

        assert state_of(large) == State.SEEN

    def test_of_a_block_nearly_final_there_waits_and_worries_nobody(self, large, second, chain):
        almost = rpc.number(chain.node.ask("eth_getBlockByNumber", hex(large.block_number), False)["timestamp"])
        second.fault(
            "eth_getBlockByNumber",
            block_with("finalized", number=hex(large.block_number - 1), timestamp=hex(almost)),
        )

        deposits.credit_due()

        assert state_of(large) == State.SEEN
        assert not Alert.objects.exists()

    def test_small_ones_do_not_wait_for_it(self, large, settings, chain, bob, pay_in):
        settings.CHAIN_SECOND_RPC_URL = NOWHERE
        pay_in(bob, 5 * UNITS)
        chain.finalize()
        scans.scan()

        assert deposits.credit_due() == 1
        assert state_of(large) == State.SEEN

    def test_away_it_is_waited_for_once_a_round(self, large, second, chain, bob, pay_in):
        pay_in(bob, 60 * UNITS)
        chain.finalize()
        scans.scan()
        second.fault("*", "rate_limit")

        deposits.credit_due()

        assert sum(second.calls.values()) == 1
        assert Alert.objects.filter(kind="second_opinion", cleared_at=None).count() == 2

    def test_before_it_is_final_safe_has_to_be_safe_there(self, chain, alice, pay_in, second):
        pay_in(alice, 60 * UNITS)
        chain.mine(5)
        scans.scan()
        row = Deposit.objects.get()
        second.fault("eth_getBlockByNumber", block_with("safe", number=hex(row.block_number - 1)))
        deposits.credit_due()
        assert state_of(row) == State.SEEN

        second.honest()
        deposits.credit_due()

        assert state_of(row) == State.CREDITED

    def test_of_one_that_goes_with_its_block_nobody_is_worried_any_more(self, large, second):
        second.fault("*", "refuse")
        deposits.credit_due()
        Deposit.objects.update(state=State.ORPHANED)

        deposits.credit_due()

        assert not alerts.is_sounding("second_opinion")


class TestWithoutASecond:
    def test_a_large_deposit_waits_but_for_a_local_stack(self, chain, alice, pay_in, settings):
        settings.DEPOSIT_SECOND_OPINION_ABOVE_UNITS, settings.CHAIN_SECOND_RPC_URL = 50 * UNITS, ""
        settings.LOCAL = False
        pay_in(alice, 50 * UNITS)
        chain.finalize()
        scans.scan()
        row = Deposit.objects.get()

        deposits.credit_due()

        assert state_of(row) == State.SEEN
        assert alerts.is_sounding("second_opinion", str(row.id))
        settings.LOCAL = True
        deposits.credit_due()
        assert state_of(row) == State.CREDITED
        assert not alerts.is_sounding("second_opinion")


class TestRefund:
    """A payout that expired is given back when both nodes say that it can never be paid."""

    @pytest.fixture
    def expired(self, chain, rich, ask, settings):
        withdrawal = ask()
        payouts.authorize_due()
        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()
        return withdrawal

    def state(self, withdrawal):
        withdrawal.refresh_from_db()
        return withdrawal.state

    @pytest.mark.parametrize(
        "lie",
        [
            ("eth_call", lambda request, answer: {**answer, "result": "0x" + "0" * 63 + "1"}),
            ("eth_getBlockByNumber", block_with("finalized", timestamp=hex(1))),
            ("eth_chainId", lambda request, answer: {**answer, "result": "0x1"}),
            ("*", "refuse"),
        ],
        ids=["used there", "not expired there", "another chain", "away"],
    )
    def test_waits_for_the_second_node(self, expired, second, lie):
        second.fault(*lie)

        payouts.settle_due()

        assert self.state(expired) == "lapsed"
        second.honest()
        payouts.settle_due()
        assert self.state(expired) == "refunded"


def test_the_first_node_has_to_show_all_of_it(chain, alice, pay_in):
    pay_in(alice, 5 * UNITS)
    chain.finalize()
    scans.scan()
    from escrow.chain import network

    here, row = network.current(), Deposit.objects.get()
    assert opinions.stands(chain.node, here, row)

    for name, value in {
        "amount_units": 1,
        "receiver": secrets.token_bytes(20),
        "log_index": 7,
        "block_hash": secrets.token_bytes(32),
        "block_number": row.block_number + 1,
    }.items():
        other = Deposit.objects.get()
        setattr(other, name, value)
        assert not opinions.stands(chain.node, here, other), name
