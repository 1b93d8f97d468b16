"""The local chain: anvil from npm, one block a second, its state kept from one start to the next."""

import json
import os
import urllib.request
from pathlib import Path

from config.devstack import ports
from config.devstack.failures import StackFailed
from config.devstack.processes import Child
from config.devstack.state import PROJECT
from config.devstack.supervisor import Supervisor

CHAIN_ID = 31337
# `safe` trails the head by one epoch of this many blocks, `finalized` by two.
SLOTS_IN_AN_EPOCH = 4
# A killed anvil forgets what it did since it last wrote its state: less than finality, so it looks like a small reorg.
SAVE_SECONDS = 5


def start(supervisor: Supervisor) -> tuple[Child, str]:
    """Start the chain; answer child and URL."""
    state = supervisor.state
    block_seconds = os.environ.get("CHAIN_BLOCK_SECONDS", "1")
    port = ports.remembered(state, "anvil")
    command: list[str | Path] = [
        *(_binary(), "--quiet", "--host", "127.0.0.1", "--port", str(port)),
        *("--chain-id", str(CHAIN_ID), "--block-time", block_seconds, "--slots-in-an-epoch", str(SLOTS_IN_AN_EPOCH)),
        *("--state", state.root / "anvil.json", "--state-interval", str(SAVE_SECONDS)),
    ]

    def recipe() -> Child:
        return Child("anvil", command, log=state.log("anvil"), cwd=state.root)

    return supervisor.start("anvil", recipe), f"http://127.0.0.1:{port}"


def is_ready(url: str) -> bool:
    """Tell whether a node answers its chain id."""
    try:
        return int(call(url, "eth_chainId"), 16) > 0
    except (OSError, ValueError, KeyError):
        return False


def call(url: str, method: str, *params: object) -> str:
    """Ask the node one thing."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)["result"]


def _binary() -> Path:
    found = sorted((PROJECT / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil"))
    if not found:
        raise StackFailed.of("anvil", "it is not installed: run make, which installs it")
    if not os.access(found[0], os.X_OK):
        found[0].chmod(0o755)
    return found[0]
