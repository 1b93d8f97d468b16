"""
Keys in encrypted files (Web3 Secret Storage, version 3), opened by a passphrase from a file or a file descriptor.

A key is never in an environment, a log, a traceback or the database. A file that others may read is refused.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from escrow.signing.signatures import KeyRefused, Signature, Signed, addresses_of

_lock = threading.Lock()
_opened: dict[str, LocalAccount] = {}
_passphrases: dict[int | str, str] = {}


def open_all() -> None:
    """Open every key that the settings name, before the worker forks: a pipe can be read once."""
    named = [settings.TREASURY_KEYSTORE, *settings.TREASURY_EARLIER_KEYSTORES, *settings.RELAYER_KEYSTORES]
    _, refusals = addresses_of(named, _address_of)
    if refusals:
        raise KeyRefused("; ".join(refusals))


def treasury_address() -> bytes:
    """The address whose key signs new payouts."""
    if not settings.TREASURY_KEYSTORE:
        raise KeyRefused("TREASURY_KEYSTORE is not set")
    return _address_of(settings.TREASURY_KEYSTORE)


def earlier_treasury_addresses() -> list[bytes]:
    """The treasuries that signed before, oldest first as the settings name them."""
    return [_address_of(path) for path in settings.TREASURY_EARLIER_KEYSTORES]


def relayer_addresses() -> list[bytes]:
    """The relayers whose keys are here and open: one that does not stops none of the others."""
    found, refusals = addresses_of(settings.RELAYER_KEYSTORES, _address_of)
    if refusals and not found:
        raise KeyRefused("; ".join(refusals))
    return found


def sign_digest(address: bytes, digest: bytes) -> Signature:
    """
    Sign 32 bytes as a treasury, the present or an earlier one: the same digest, the same signature (RFC 6979).

    :raises KeyRefused: if no keystore of a treasury is that of the address
    """
    account = _holder(address, [settings.TREASURY_KEYSTORE, *settings.TREASURY_EARLIER_KEYSTORES])
    signed = account.unsafe_sign_hash(Hash32(digest))
    return Signature(signed.v, signed.r, signed.s)


def sign_transaction(address: bytes, transaction: dict[str, Any]) -> Signed:
    """
    Sign a transaction of a relayer (EIP-1559).

    :raises KeyRefused: if no keystore here holds that relayer's key
    """
    signed = _holder(address, settings.RELAYER_KEYSTORES).sign_transaction(transaction)
    return Signed(bytes(signed.raw_transaction), bytes(signed.hash))


def _holder(address: bytes, paths: list[str]) -> LocalAccount:
    refusals = []
    for path in filter(None, paths):
        try:
            if _address_of(path) == address:
                return _account(path)
        except KeyRefused as refusal:  # one file that does not open stops none of the others
            refusals.append(str(refusal))
    raise KeyRefused("; ".join([f"no keystore holds the key of 0x{address.hex()}", *refusals]))


def _address_of(path: str) -> bytes:
    return bytes.fromhex(_account(path).address[2:])


def _account(path: str) -> LocalAccount:
    with _lock:
        if path not in _opened:
            _opened[path] = _open(Path(path))
        return _opened[path]


def _open(path: Path) -> LocalAccount:
    content = _private(path)
    try:
        return Account.from_key(Account.decrypt(json.loads(content), _passphrase()))
    except (ValueError, KeyError, TypeError, NotImplementedError):
        raise KeyRefused(f"{path.name}: not a keystore, or the passphrase is another") from None


def _passphrase() -> str:
    source: int | str = settings.TREASURY_PASSPHRASE_FD
    if settings.TREASURY_PASSPHRASE_FD < 0:
        source = settings.TREASURY_PASSPHRASE_FILE
    if source not in _passphrases:
        content = _from_descriptor(source) if isinstance(source, int) else _private(Path(source))
        _passphrases[source] = content.decode().rstrip("\n")
    return _passphrases[source]


def _from_descriptor(descriptor: int) -> bytes:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as pipe:
            return pipe.read()
    except OSError as error:
        raise KeyRefused(f"TREASURY_PASSPHRASE_FD: {error.strerror}") from None


def _private(path: Path) -> bytes:
    """Read a file that nobody else may read."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyRefused(f"{path.name} is readable by others: chmod 600")
            return file.read()
    except OSError as error:
        raise KeyRefused(f"{path.name}: {error.strerror}") from None
