"""What the token says: balances in batches, and no answer that is taken for nothing owned."""

import secrets

import pytest

from escrow.chain import rpc, usdc
from escrow.tests.chain import UNITS


class TestBalancesOf:
    def test_reads_each_owner_once_in_more_than_one_batch(self, chain):
        owners = [secrets.token_bytes(20) for _ in range(rpc.BATCH + 3)]
        for owner, units in ((owners[0], 1 * UNITS), (owners[-1], 2 * UNITS)):
            chain.mint(owner, units)

        found = usdc.balances_of(chain.node, chain.usdc, [*owners, owners[0]], block=chain.head().hash)

        assert list(found) == owners
        assert (found[owners[0]], found[owners[1]], found[owners[-1]]) == (1 * UNITS, 0, 2 * UNITS)

    def test_is_as_of_the_block_that_is_named(self, chain):
        owner = secrets.token_bytes(20)
        before = chain.head()
        chain.mint(owner, UNITS)

        assert usdc.balances_of(chain.node, chain.usdc, [owner], block=before.hash) == {owner: 0}

    def test_of_nobody_asks_nothing(self, chain):
        assert usdc.balances_of(rpc.Node("http://127.0.0.1:1"), chain.usdc, []) == {}

    def test_where_there_is_no_token_nobody_is_told_to_own_nothing(self, chain):
        nowhere, owners = secrets.token_bytes(20), [secrets.token_bytes(20) for _ in range(2)]

        with pytest.raises(rpc.NodeUnavailable):
            usdc.balances_of(chain.node, nowhere, owners)
        with pytest.raises(rpc.NodeUnavailable):
            usdc.balance_of(chain.node, nowhere, owners[0])


class TestTransfers:
    def test_finds_what_came_and_what_went_each_once(self, chain):
        stranger = secrets.token_bytes(20)
        first = chain.head().number + 1
        chain.mint(chain.faucet, 3 * UNITS)
        chain.do(chain.usdc, usdc.transfer_call(stranger, 1 * UNITS))
        chain.do(chain.usdc, usdc.transfer_call(chain.faucet, 2 * UNITS))  # to itself

        found = usdc.transfers(
            chain.node,
            chain.usdc,
            first=first,
            last=chain.head().number,
            receivers=[chain.faucet],
            senders=[chain.faucet],
        )

        assert [(one.sender, one.receiver, one.amount_units) for one in found] == [
            (b"\0" * 20, chain.faucet, 3 * UNITS),
            (chain.faucet, stranger, 1 * UNITS),
            (chain.faucet, chain.faucet, 2 * UNITS),
        ]

    def test_logs_of_blocks_that_were_not_asked_for_are_not_believed(self, chain, monkeypatch):
        chain.mint(chain.faucet, 3 * UNITS)
        logs = chain.node.ask("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})
        monkeypatch.setattr(rpc.Node, "ask", lambda *_: logs)

        with pytest.raises(rpc.ChainNotTrusted) as refusal:
            list(usdc.everybodys_transfers(chain.node, chain.usdc, first=0, last=0))

        assert refusal.value.reason == "other_height"
