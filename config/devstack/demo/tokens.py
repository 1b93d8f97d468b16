"""The chain as an outsider meets it: a faucet that mints test USDC, and balances that anyone can read."""

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

    def mint(self, receiver: str, amount_units: int) -> int:
        """Mint to an address; answer the block it is in."""
        call = usdc.mint_call(addresses.parse(receiver), amount_units)
        receipt = local.transact(self.node, self.faucet_key, to=self.address, data=call)
        return rpc.number(receipt["blockNumber"])

    def head(self) -> int:
        """Read the number of the newest block."""
        return rpc.number(self.node.ask("eth_blockNumber"))

    def balance(self, owner: bytes | str, *, block: int | str = "latest") -> int:
        """Read what an address holds, in micro-USDC."""
        where = addresses.parse(owner) if isinstance(owner, str) else owner
        return usdc.balance_of(self.node, self.address, where, block=block)


def fresh_address() -> str:
    """Draw an address that nobody used before; its key is thrown away."""
    return Account.create().address
