"""The chain as an outsider meets it: a faucet that mints test USDC, balances and transfers that anyone can read."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from eth_account import Account

from escrow.chain import addresses, local, rpc, usdc


class Token:
    """Test USDC on the local chain, known from `chain.json`."""

    def __init__(self, chain: dict[str, Any]) -> None:
        self.node = rpc.connect(chain["rpc_url"])
        self.address = addresses.parse(chain["usdc"])
        self.treasury = chain["treasury"]
        self.faucet_key = chain["faucet_private_key"]

    def mint(self, receiver: str, amount_units: int) -> tuple[bytes, int]:
        """Mint to an address; answer the transaction's hash and the block it is in."""
        call = usdc.mint_call(addresses.parse(receiver), amount_units)
        receipt = local.transact(self.node, self.faucet_key, to=self.address, data=call)
        return rpc.raw(receipt["transactionHash"]), rpc.number(receipt["blockNumber"])

    def head(self) -> int:
        """Read the number of the newest block."""
        return rpc.number(self.node.ask("eth_blockNumber"))

    def balance(self, owner: bytes | str, *, block: int | str = "latest") -> int:
        """Read what an address holds, in micro-USDC."""
        where = addresses.parse(owner) if isinstance(owner, str) else owner
        return usdc.balance_of(self.node, self.address, where, block=block)

    def payments_to(self, receiver: str) -> list[usdc.Transfer]:
        """Read every transfer there ever was to an address."""
        wanted = [addresses.parse(receiver)]
        return usdc.transfers(self.node, self.address, first=0, last=self.head(), receivers=wanted)

    # --- what only the owner of a local chain can do ------------------------------------------------------------------
    @contextlib.contextmanager
    def no_new_blocks(self) -> Iterator[None]:
        """Stop the chain's clock for a while."""
        self.node.ask("anvil_setIntervalMining", 0)
        try:
            yield
        finally:
            seconds = float(os.environ.get("CHAIN_BLOCK_SECONDS", "1"))
            self.node.ask("anvil_setIntervalMining", max(1, round(seconds)))

    def forget(self, tx_hash: bytes) -> int:
        """Replace the newest blocks, down to that of a transaction, by empty ones; answer how many that were."""
        receipt = self.node.receipt(tx_hash)
        if receipt is None:
            raise rpc.NodeError("the transaction is in no block")
        depth = self.head() - rpc.number(receipt["blockNumber"]) + 1
        self.node.ask("anvil_reorg", depth, [])
        if self.node.receipt(tx_hash):
            raise rpc.NodeError("the transaction is still in a block")
        return depth

    def raw(self, tx_hash: bytes) -> bytes:
        """Read a transaction as it was sent."""
        return rpc.raw(self.node.ask("eth_getRawTransactionByHash", rpc.text(tx_hash)))

    def send(self, raw_transaction: bytes) -> int:
        """Send a signed transaction; answer the block it is in."""
        tx_hash = rpc.raw(self.node.ask("eth_sendRawTransaction", rpc.text(raw_transaction)))
        return rpc.number(local.wait_for(self.node, tx_hash)["blockNumber"])


def fresh_address() -> str:
    """Draw an address that nobody used before; its key is thrown away."""
    return Account.create().address
