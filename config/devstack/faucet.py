"""Test USDC for anybody: mints on the local chain, like a faucet does, and sends it to an address."""

import json
import sys
from decimal import Decimal
from pathlib import Path


def run(state_dir: Path, address: str, amount: str) -> int:
    """Mint `amount` (decimal USDC) to an address on the chain of a running stack; answer the exit status."""
    from escrow.chain import addresses, local, rpc, usdc

    record = state_dir / "chain.json"
    if not record.exists():
        print(f"There is no {record}: start the stack with `make up` first.", file=sys.stderr)
        return 1
    chain = json.loads(record.read_text())
    local.transact(
        rpc.connect(chain["rpc_url"]),
        chain["faucet_private_key"],
        to=addresses.parse(chain["usdc"]),
        data=usdc.mint_call(addresses.parse(address), int(Decimal(amount) * 1_000_000)),
    )
    print(f"minted {amount} test USDC to {address}")
    return 0
