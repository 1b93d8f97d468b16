"""A chain for tests: an anvil child of our own, whose blocks are mined when a test says so."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from escrow.chain import addresses, forwarders, local, rpc, usdc

ROOT = Path(__file__).resolve().parents[2]
BINARY = "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
UNITS = 1_000_000
SLOTS = 4  # of an epoch
FINAL = 2 * SLOTS + 1  # blocks until a block is at or below `finalized`: two epochs, and one more


def anvil_binary() -> str:
    """Where anvil is: ANVIL_BIN, the project's node_modules, the development box, the path."""
    state = Path(os.environ.get("STATE_DIR", ROOT / ".local"))
    for place in (
        os.environ.get("ANVIL_BIN"),
        ROOT / BINARY,
        state / BINARY,
        "/tmp/dev/node/" + BINARY,
        shutil.which("anvil"),
    ):
        if place and Path(place).exists():
            return str(place)
    raise RuntimeError("anvil is not installed: `npm install` in the project root, or set ANVIL_BIN")


@contextmanager
def anvil(*options: str, slots: int = SLOTS) -> Iterator[str]:
    """An anvil child on a free port, with so many slots in an epoch; answers its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [anvil_binary(), "--port", str(port), "--slots-in-an-epoch", str(slots), "--silent", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(rpc.Node(url), process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


class LocalChain:
    """What a test does to the chain: mint, mine, reorganise, let time pass."""

    def __init__(self, url: str, state_dir: Path, *, final: int = FINAL) -> None:
        self.url = url
        self.final = final
        self.state_dir = state_dir
        self.node = rpc.connect(url)
        self.deployed = local.deploy(self.node, rpc_url=url, state_dir=state_dir)
        self.chain_id: int = self.deployed["chain_id"]
        self.usdc = addresses.parse(self.deployed["usdc"])
        self.factory = addresses.parse(self.deployed["factory"])
        self.treasury = addresses.parse(self.deployed["treasury"])
        self.faucet_key: str = self.deployed["faucet_private_key"]
        self.faucet = local.address_of(self.faucet_key)
        self.reorganised = False

    def mint(self, to: bytes, units: int) -> dict[str, Any]:
        """Give an address test USDC out of nothing, in a block of its own."""
        return self.do(self.usdc, usdc.mint_call(to, units))

    def do(self, to: bytes, data: bytes, *, key: str | None = None) -> dict[str, Any]:
        return local.transact(self.node, key or self.faucet_key, to=to, data=data)

    def create(self, code: bytes) -> bytes:
        receipt = local.transact(self.node, self.faucet_key, to=None, data=code)
        return rpc.raw(receipt["contractAddress"])

    def mine(self, blocks: int = 1) -> None:
        self.node.ask("anvil_mine", hex(blocks))

    def finalize(self) -> None:
        """Let enough blocks pass that everything so far is final."""
        self.mine(self.final)

    def pass_time(self, seconds: int) -> None:
        self.node.ask("evm_increaseTime", hex(seconds))
        self.mine()

    def catch_up_with_the_clock(self) -> None:
        """Put back to an earlier block, anvil goes on from that block's time: its head would look stale."""
        self.node.ask("evm_setNextBlockTimestamp", hex(max(int(time.time()), self.head().timestamp + 1)))
        self.mine()

    def reorg(self, depth: int) -> None:
        """Replace the newest blocks by as many empty ones, which lose their transactions."""
        self.reorganised = True
        self.node.ask("anvil_reorg", depth, [])

    def rollback(self, depth: int) -> None:
        """Take the newest blocks away; what is mined next stands at their heights."""
        self.reorganised = True
        self.node.ask("anvil_rollback", depth)

    def automine(self, on: bool) -> None:
        self.node.ask("evm_setAutomine", on)

    def balance(self, owner: bytes) -> int:
        return usdc.balance_of(self.node, self.usdc, owner)

    def head(self) -> rpc.Block:
        return self.node.heads().latest

    def empty_treasury_of(self, units: int) -> None:
        """Move USDC out of the treasury, as anvil lets anyone impersonate it."""
        treasury = rpc.text(self.treasury)
        self.node.ask("anvil_impersonateAccount", treasury)
        self.node.ask("anvil_setBalance", treasury, hex(local.ETHER))
        call = {"from": treasury, "to": rpc.text(self.usdc), "data": rpc.text(usdc.transfer_call(b"\x11" * 20, units))}
        local.wait_for(self.node, rpc.raw(self.node.ask("eth_sendTransaction", call)))
        self.node.ask("anvil_stopImpersonatingAccount", treasury)
        self.node.ask("anvil_setBalance", treasury, "0x0")

    def snapshot(self) -> str:
        return self.node.ask("evm_snapshot")

    def revert(self, snapshot: str) -> None:
        self.node.ask("evm_revert", snapshot)

    def point(self, settings: Any) -> None:
        """Have the settings name this chain, its contracts and its keys."""
        settings.STATE_DIR = self.state_dir
        settings.CHAIN_RPC_URL = self.url
        settings.CHAIN_ID, settings.USDC_ADDRESS, settings.DEPOSIT_FACTORY_ADDRESS = 0, "", ""
        keys = self.state_dir / "keys"
        settings.TREASURY_KEYSTORE = str(keys / "treasury.json")
        settings.TREASURY_PASSPHRASE_FILE = str(keys / "passphrase")
        settings.TREASURY_PASSPHRASE_FD = -1
        settings.RELAYER_KEYSTORES = [str(keys / f"relayer-{n}.json") for n in (1, 2)]
        settings.BAILEE_PROCESS = "treasury"

    def address_for(self, salt: bytes) -> bytes:
        return forwarders.address_of(salt, factory=self.factory)


class Chains:
    """One chain after the other: the same one put back after each test, a new one where a test reorganised it."""

    def __init__(self, new_state_dir: Callable[[], Path]) -> None:
        self._new_state_dir = new_state_dir
        self._stack = ExitStack()
        self._chain: LocalChain | None = None
        self._snapshot = ""

    def take(self) -> LocalChain:
        if self._chain is None:
            self._chain = LocalChain(self._stack.enter_context(anvil()), self._new_state_dir())
        self._snapshot = self._chain.snapshot()
        self._chain.catch_up_with_the_clock()
        return self._chain

    def give_back(self) -> None:
        if self._chain is None or self._chain.reorganised:  # anvil drops its snapshots when it reorganises
            self.end()
            return
        self._chain.automine(True)
        self._chain.revert(self._snapshot)

    def end(self) -> None:
        self._stack.close()
        self._chain = None


def _wait_until_it_answers(node: rpc.Node, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError("anvil ended at once")
        try:
            node.chain_id()
            return
        except rpc.NodeError:
            time.sleep(0.05)
    raise RuntimeError("anvil does not answer")
