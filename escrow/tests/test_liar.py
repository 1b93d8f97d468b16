"""The lying node lies as it was told, and is the real node otherwise."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from escrow.chain import rpc
from escrow.tests.chain import UNITS

pytestmark = pytest.mark.django_db


@pytest.fixture
def node(liar):
    return rpc.Node(liar.url)


def test_an_honest_one_answers_as_the_node_does(chain, liar, node):
    chain.mint(b"\x01" * 20, 5 * UNITS)

    assert node.heads() == chain.node.heads()
    assert node.blocks([1, 2, 3]) == chain.node.blocks([1, 2, 3])
    assert node.code(chain.usdc) == chain.node.code(chain.usdc)
    assert liar.calls["eth_getBlockByNumber"] == 6
    assert liar.calls["eth_getCode"] == 1


def test_errors_of_the_node_come_through(node):
    with pytest.raises(rpc.NodeRefused, match="-32601"):
        node.ask("eth_nonsense")


def test_many_ask_at_once(chain, liar):
    heights = list(range(1, 6)) * 8

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda height: rpc.Node(liar.url).block(height), heights))

    assert found == [chain.node.block(height) for height in heights]


@pytest.mark.parametrize("how", ["refuse", "error_after_accepting"])
def test_an_error(liar, node, how):
    liar.fault("eth_chainId", how)

    with pytest.raises(rpc.NodeRefused):
        node.chain_id()


@pytest.mark.parametrize("how", ["rate_limit", "truncate"])
def test_no_readable_answer(liar, node, how):
    liar.fault("eth_chainId", how)

    with pytest.raises(rpc.NodeUnavailable):
        node.chain_id()
    with pytest.raises(rpc.NodeUnavailable):
        node.ask_many([("eth_blockNumber", []), ("eth_chainId", [])])


def test_it_hangs_until_it_is_honest(chain, liar, node):
    liar.fault("*", "hang")
    outcome = []

    def ask():
        try:
            outcome.append(node.chain_id())
        except rpc.NodeUnavailable as error:
            outcome.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not liar.calls["eth_chainId"]:
        pass
    assert outcome == []

    liar.honest()
    asking.join()

    assert isinstance(outcome[0], rpc.NodeUnavailable)
    assert node.chain_id() == chain.chain_id


def test_so_many_times(chain, liar, node):
    liar.fault("*", "refuse", times=2)

    for _ in range(2):
        with pytest.raises(rpc.NodeRefused):
            node.chain_id()

    assert node.chain_id() == chain.chain_id


def test_one_method_alone(chain, liar, node):
    liar.fault("eth_chainId", "refuse")

    assert node.heads() == chain.node.heads()
    with pytest.raises(rpc.NodeRefused):
        node.ask_many([("eth_blockNumber", []), ("eth_chainId", [])])


def test_an_answer_rewritten(liar, node):
    liar.fault("eth_chainId", lambda request, answer: {**answer, "result": "0x1"})

    assert node.chain_id() == 1
    assert node.ask_many([("eth_chainId", [])]) == ["0x1"]


def test_a_transaction_accepted_and_denied(chain, liar, node):
    raw, tx_hash = _a_transaction(chain)
    liar.fault("eth_sendRawTransaction", "error_after_accepting")

    with pytest.raises(rpc.NodeRefused):
        node.send(raw)

    assert node.receipt(tx_hash) is not None


def test_a_transaction_that_is_lost(chain, liar, node):
    raw, tx_hash = _a_transaction(chain)
    liar.fault("eth_sendRawTransaction", "drop")

    answered = node.ask("eth_sendRawTransaction", rpc.text(raw))

    assert rpc.raw(answered) == tx_hash
    chain.mine()
    assert node.receipt(tx_hash) is None
    assert liar.calls["eth_sendRawTransaction"] == 1


def test_a_fault_nobody_knows(liar):
    with pytest.raises(ValueError):
        liar.fault("*", "explode")


def _a_transaction(chain):
    from eth_account import Account

    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": chain.chain_id,
            "nonce": chain.node.transaction_count(chain.faucet),
            "to": "0x" + "11" * 20,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 100 * 10**9,
            "maxPriorityFeePerGas": 10**9,
        },
        chain.faucet_key,
    )
    return bytes(signed.raw_transaction), bytes(signed.hash)
