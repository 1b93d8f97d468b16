"""A node whose answers have the wrong shape: never a crash, never a row, never money."""

import copy
from contextlib import contextmanager, suppress

import pytest
from django.db import transaction

from escrow import deposits, ledger, scans
from escrow.chain import network, rpc
from escrow.models import Deposit, Outflow, ScanCursor
from escrow.tests.chain import UNITS

NONSENSE = (
    None, "", "0x", "0xzz", "what", "0x" + "f" * 64, "0x" + "f" * 80, -1, 7, True, [], [None], ["0x1"], {}, {"a": 1},
)  # fmt: skip
LEFT_OUT = object()
READ = {
    "number", "hash", "parentHash", "timestamp", "address", "topics", "data", "blockNumber", "blockHash",
    "transactionHash", "logIndex", "status", "logs",
}  # fmt: skip
EXPECTED = (rpc.NodeError, rpc.ChainNotTrusted)


def misshapen(result):
    """What may become of a result: nonsense instead of it, of each of its members, or one of these left out."""
    yield from NONSENSE
    holders = [result[0]] if isinstance(result, list) and result and isinstance(result[0], dict) else [result]
    for holder in holders:
        if not isinstance(holder, dict):
            continue
        for name in holder:
            if name not in READ:
                continue
            for value in (*NONSENSE, LEFT_OUT):
                changed = copy.deepcopy(result)
                target = changed[0] if isinstance(changed, list) else changed
                if value is LEFT_OUT:
                    del target[name]
                else:
                    target[name] = value
                yield changed


@pytest.fixture
def paid(chain, alice, pay_in):
    """What a scan would find: a deposit in a final block."""
    scans.scan()
    tx_hash = pay_in(alice, 50 * UNITS)
    chain.finalize()
    return tx_hash


@contextmanager
def undone():
    """What is written in here is forgotten afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def answers(liar, verb, method) -> list:
    """The results of a method while the verb runs on an honest node: one of each shape."""
    results = {}

    def listen(request, answer):
        results[type(answer["result"]), bool(answer["result"])] = answer["result"]
        return answer

    liar.fault(method, listen)
    with undone():
        verb()
    liar.honest()
    return list(results.values())


def wrong_receipts(liar, tx_hash) -> list:
    [receipt] = answers(liar, lambda: rpc.connect(liar.url).receipt(tx_hash), "eth_getTransactionReceipt")
    return [*misshapen(receipt), *({**receipt, "logs": logs} for logs in misshapen(receipt["logs"]))]


class TestScan:
    @pytest.mark.parametrize("method", ["eth_chainId", "eth_getBlockByNumber", "eth_getLogs"])
    def test_refuses_and_invents_nothing(self, chain, alice, paid, liar, method):
        head, refused = chain.head().number, 0
        for wrong in [wrong for result in answers(liar, scans.scan, method) for wrong in misshapen(result)]:
            liar.fault(method, lambda request, answer, wrong=wrong: {**answer, "result": wrong})
            with undone():
                try:
                    scans.scan()
                except EXPECTED:
                    refused += 1
                assert ScanCursor.objects.get().block_number <= head
                assert set(Deposit.objects.values_list("agent", "amount_units")) <= {(alice.pk, 50 * UNITS)}
                assert not Outflow.objects.exists()
        liar.honest()
        assert refused > 10

        scans.scan()
        deposits.credit_due()
        assert ledger.balance("available", str(alice.id)) == 50 * UNITS


class TestReceipt:
    def test_credit_refuses_it_or_waits(self, chain, alice, paid, liar):
        scans.scan()
        for wrong in wrong_receipts(liar, paid):
            liar.fault("eth_getTransactionReceipt", lambda request, answer, wrong=wrong: {**answer, "result": wrong})
            with suppress(*EXPECTED):
                deposits.credit_due()
            assert ledger.balance("available", str(alice.id)) == 0, wrong
        liar.honest()

        assert deposits.credit_due() == 1

    def test_look_up_refuses_it_or_finds_nothing(self, chain, alice, paid, liar):
        scans.scan()
        for wrong in wrong_receipts(liar, paid):
            liar.fault("eth_getTransactionReceipt", lambda request, answer, wrong=wrong: {**answer, "result": wrong})
            with suppress(*EXPECTED):
                assert scans.look_up(paid) == 0, wrong

        assert Deposit.objects.count() == 1


class TestBatch:
    @pytest.mark.parametrize("wrong", [None, {}, [], "what", [{"id": None, "result": "0x1"}], [7]])
    def test_whose_answers_do_not_match_is_no_answer(self, wrong, monkeypatch):
        node = rpc.Node("http://127.0.0.1:1")
        monkeypatch.setattr(node._provider, "make_batch_request", lambda calls: wrong)

        with pytest.raises(rpc.NodeUnavailable):
            node.ask_many([("eth_chainId", [])])

    def test_that_answers_one_call_twice_is_no_answer(self, monkeypatch):
        node = rpc.Node("http://127.0.0.1:1")
        twice = [{"id": 0, "result": "0x1"}, {"id": 0, "result": "0x2"}]
        monkeypatch.setattr(node._provider, "make_batch_request", lambda calls: twice)

        with pytest.raises(rpc.NodeUnavailable):
            node.ask_many([("eth_chainId", []), ("eth_chainId", [])])

    @pytest.mark.parametrize("error", [{"code": "x"}, {"code": None, "message": 7}, "no", ["no"], 5])
    def test_an_error_of_any_shape_is_a_refusal(self, error, monkeypatch):
        node = rpc.Node("http://127.0.0.1:1")
        monkeypatch.setattr(node._provider, "make_request", lambda *call: {"error": error})

        with pytest.raises(rpc.NodeRefused):
            node.chain_id()

    def test_too_many_requests_is_no_answer(self, chain, liar):
        liar.fault("*", "rate_limit")

        with pytest.raises(rpc.NodeUnavailable):
            network.node().chain_id()
