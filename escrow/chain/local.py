"""
A chain of one's own: test USDC, the deposit factory, and throw-away keys, for development and tests.

Everything is recorded in the state directory, so that a second run finds it and changes nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from escrow.chain import addresses, rpc
from escrow.chain.contracts.compile import ARTEFACTS

ETHER = 10**18
RELAYERS = 2


class NotLocal(Exception):
    """The node keeps no unlocked accounts: this is no chain to play with."""


def deploy(node: rpc.Node, *, rpc_url: str, state_dir: Path) -> dict[str, Any]:
    """
    This will make sure that the contracts stand and the keys exist, and write chain.json.

    :raises NotLocal: if the node has no account of its own that pays for gas
    """
    keys = state_dir / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    passphrase = _passphrase(keys / "passphrase")
    treasury = _keystore(keys / "treasury.json", passphrase)
    cold = _keystore(keys / "cold.json", passphrase)
    relayers = [_keystore(keys / f"relayer-{n}.json", passphrase) for n in range(1, RELAYERS + 1)]

    recorded = _recorded(state_dir / "chain.json")
    faucet_key = recorded.get("faucet_private_key") or "0x" + secrets.token_hex(32)
    for address in (address_of(faucet_key), *relayers):
        _fund(node, address)
    if not _stands(node, recorded):
        recorded = _deployed(node, faucet_key, owner=cold, treasury=treasury)
    chain = {
        "rpc_url": rpc_url,
        "chain_id": recorded["chain_id"],
        "usdc": recorded["usdc"],
        "factory": recorded["factory"],
        "treasury": addresses.to_text(treasury),
        "faucet_private_key": faucet_key,
    }
    write_private(state_dir / "chain.json", json.dumps(chain, indent=1) + "\n")
    return {**chain, "relayers": relayers}


def transact(node: rpc.Node, key: str, *, to: bytes | None, data: bytes) -> dict[str, Any]:
    """Send a transaction with a throw-away key, wait for its block, and answer the receipt."""
    from eth_account import Account

    sender = address_of(key)
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": node.chain_id(),
        "nonce": node.transaction_count(sender, block="pending"),
        "value": 0,
        "data": data,
        "maxFeePerGas": 100 * 10**9,
        "maxPriorityFeePerGas": 10**9,
        "gas": 8_000_000,
    }
    if to is not None:
        transaction["to"] = addresses.to_text(to)
    signed = Account.sign_transaction(transaction, key)
    node.send(bytes(signed.raw_transaction))
    receipt = wait_for(node, bytes(signed.hash))
    if rpc.number(receipt["status"]) != 1:
        raise rpc.NodeError("the transaction was reverted")
    return receipt


def wait_for(node: rpc.Node, tx_hash: bytes, *, seconds: float = 30) -> dict[str, Any]:
    """The receipt of a transaction, once a block holds it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if receipt := node.receipt(tx_hash):
            return receipt
        time.sleep(0.05)
    raise rpc.NodeUnavailable("no block took the transaction")


def address_of(key: str) -> bytes:
    """The address of a private key."""
    from eth_account import Account

    return bytes.fromhex(Account.from_key(key).address[2:])


def write_private(path: Path, content: str) -> None:
    """Write a file only its owner may read, whole or not at all; the same content again changes nothing."""
    if path.exists() and path.read_text() == content:
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    draft.replace(path)


def artefact(name: str) -> dict[str, Any]:
    """The committed artefact of a contract."""
    found: dict[str, Any] = json.loads((ARTEFACTS / f"{name}.json").read_text())
    return found


def _deployed(node: rpc.Node, key: str, *, owner: bytes, treasury: bytes) -> dict[str, Any]:
    usdc = _create(node, key, rpc.raw(artefact("TestUSDC")["bytecode"]))
    blueprint = _create(node, key, rpc.raw(artefact("DepositForwarder")["blueprint_bytecode"]))
    arguments = b"".join(address.rjust(32, b"\0") for address in (blueprint, owner, treasury))
    factory = _create(node, key, rpc.raw(artefact("DepositFactory")["bytecode"]) + arguments)
    return {"chain_id": node.chain_id(), "usdc": addresses.to_text(usdc), "factory": addresses.to_text(factory)}


def _create(node: rpc.Node, key: str, code: bytes) -> bytes:
    return rpc.raw(transact(node, key, to=None, data=code)["contractAddress"])


def _stands(node: rpc.Node, recorded: dict[str, Any]) -> bool:
    return (
        bool(recorded)
        and recorded["chain_id"] == node.chain_id()
        and all(node.code(addresses.parse(recorded[name])) for name in ("usdc", "factory"))
    )


def _fund(node: rpc.Node, address: bytes) -> None:
    """Give an address gas for years of tests, from an account the local node holds the key of."""
    if node.gas_balance(address) > ETHER:
        return
    accounts = node.ask("eth_accounts")
    if not accounts:
        raise NotLocal("the node holds no accounts: contracts are deployed by hand on a real chain")
    payment = {"from": accounts[0], "to": rpc.text(address), "value": hex(100 * ETHER)}
    wait_for(node, rpc.raw(node.ask("eth_sendTransaction", payment)))


def _recorded(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _passphrase(path: Path) -> str:
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().rstrip("\n")


def _keystore(path: Path, passphrase: str) -> bytes:
    """The address of a keystore, which is made when it is not there."""
    from eth_account import Account

    if not path.exists():
        account = Account.create()
        # 2^13 rounds open in a moment; what guards these keys is that they are worth nothing
        keystore = Account.encrypt(account.key, passphrase, kdf="scrypt", iterations=2**13)
        write_private(path, json.dumps(keystore) + "\n")
    return bytes.fromhex(json.loads(path.read_text())["address"].removeprefix("0x"))
