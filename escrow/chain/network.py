"""Which chain this is: from the settings, or locally from what `deploy_contracts` wrote down."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from accounts.errors import TryLater
from escrow.chain import addresses, rpc


class NoChain(TryLater):
    """Neither the settings nor STATE_DIR/chain.json say which contracts to use."""

    title = "No chain is set up yet"


class Network(NamedTuple):
    """The chain, the token and the factory of the deposit addresses."""

    chain_id: int
    usdc: bytes
    factory: bytes

    @property
    def custody(self) -> tuple[str, str]:
        """The ledger account that mirrors what this chain holds."""
        return ("custody", f"chain:{self.chain_id}")


def current() -> Network:
    """
    The network this installation works with.

    :raises NoChain: if neither the settings nor STATE_DIR/chain.json name it
    """
    if settings.CHAIN_ID and settings.USDC_ADDRESS and settings.DEPOSIT_FACTORY_ADDRESS:
        return Network(
            settings.CHAIN_ID, addresses.parse(settings.USDC_ADDRESS), addresses.parse(settings.DEPOSIT_FACTORY_ADDRESS)
        )
    recorded = _recorded()
    return Network(recorded["chain_id"], addresses.parse(recorded["usdc"]), addresses.parse(recorded["factory"]))


def node() -> rpc.Node:
    """The node of this network."""
    return rpc.connect(settings.CHAIN_RPC_URL)


def second_node() -> rpc.Node | None:
    """Somebody else's node of the same network, None where none is named."""
    return rpc.connect(settings.CHAIN_SECOND_RPC_URL) if settings.CHAIN_SECOND_RPC_URL else None


def _recorded() -> dict[str, Any]:
    path = Path(settings.STATE_DIR) / "chain.json"
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        raise NoChain("The platform's contracts are not deployed yet (`manage.py deploy_contracts`).") from None
    return _read(path, changed)


@lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> dict[str, Any]:
    return json.loads(path.read_text())
