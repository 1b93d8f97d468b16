"""The keys of this process, in encrypted files or in AWS KMS, as `TREASURY_SIGNER` says. Callers import this alone."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast

from django.conf import settings

from escrow.signing.signatures import KeyRefused, Signature, Signed

__all__ = ["KeyRefused", "open_all", "relayer_addresses", "sign_digest", "sign_transaction", "treasury_address"]

Result = TypeVar("Result")
SIGNERS = {"keystore": "escrow.signing.keystore", "kms": "escrow.signing.kms"}


class Signer(Protocol):
    """What each way of keeping keys can do; addresses are 20 bytes. Each raises KeyRefused, nothing else."""

    def open_all(self) -> None: ...
    def treasury_address(self) -> bytes: ...
    def earlier_treasury_addresses(self) -> list[bytes]: ...
    def relayer_addresses(self) -> list[bytes]: ...
    def sign_digest(self, address: bytes, digest: bytes) -> Signature: ...
    def sign_transaction(self, address: bytes, transaction: dict[str, Any]) -> Signed: ...


def open_all() -> None:
    """
    Open every key that the settings name, before the worker forks: a passphrase that comes by a pipe comes once.

    :raises KeyRefused: naming each that does not open, after the others are open
    """
    named = {
        "keystore": [*settings.TREASURY_EARLIER_KEYSTORES, *settings.RELAYER_KEYSTORES],
        "kms": [*settings.TREASURY_EARLIER_KMS_KEYS, *settings.RELAYER_KMS_KEYS],
    }
    refusals = []
    for signer in _signers(named):
        try:
            signer.open_all()
        except KeyRefused as refusal:
            refusals.append(str(refusal))
    if refusals:
        raise KeyRefused("; ".join(refusals))


def treasury_address() -> bytes:
    """The address whose key signs new payouts."""
    return _chosen().treasury_address()


def earlier_treasury_addresses() -> list[bytes]:
    """The treasuries that signed before and whose keys are here, of either signer, oldest first."""
    earlier = {"keystore": settings.TREASURY_EARLIER_KEYSTORES, "kms": settings.TREASURY_EARLIER_KMS_KEYS}
    return [
        address for name, named in earlier.items() if named for address in _signer(name).earlier_treasury_addresses()
    ]


def relayer_addresses() -> list[bytes]:
    """The relayers whose keys are here."""
    return _chosen().relayer_addresses()


def sign_digest(address: bytes, digest: bytes) -> Signature:
    """
    Sign 32 bytes, an EIP-712 digest, as the treasury of that address, the present one or an earlier.

    :raises KeyRefused: if its key is not here or cannot be used
    """
    earlier = {"keystore": settings.TREASURY_EARLIER_KEYSTORES, "kms": settings.TREASURY_EARLIER_KMS_KEYS}
    return _first(lambda signer: signer.sign_digest(address, digest), earlier)


def sign_transaction(address: bytes, transaction: dict[str, Any]) -> Signed:
    """
    Sign a transaction (EIP-1559, as web3 words it) as the relayer of that address.

    :raises KeyRefused: if its key is not here or cannot be used
    """
    relayers = {"keystore": settings.RELAYER_KEYSTORES, "kms": settings.RELAYER_KMS_KEYS}
    return _first(lambda signer: signer.sign_transaction(address, transaction), relayers)


def _first(sign: Callable[[Signer], Result], named: dict[str, list[str]]) -> Result:
    """
    Ask the chosen signer, then the other where the settings name keys of it.

    Moving from files to KMS, or back, is a rotation too: what was begun under the old keys is finished with them.
    """
    refusals = []
    for signer in _signers(named):
        try:
            return sign(signer)
        except KeyRefused as refusal:
            refusals.append(str(refusal))
    raise KeyRefused("; ".join(refusals))


def _signers(named: dict[str, list[str]]) -> Iterator[Signer]:
    yield _chosen()
    for name, key_names in named.items():
        if name != settings.TREASURY_SIGNER and key_names:
            yield _signer(name)


def _chosen() -> Signer:
    if settings.TREASURY_SIGNER not in SIGNERS:
        raise KeyRefused(f"TREASURY_SIGNER is one of {', '.join(SIGNERS)}")
    return _signer(settings.TREASURY_SIGNER)


def _signer(name: str) -> Signer:
    return cast(Signer, import_module(SIGNERS[name]))
