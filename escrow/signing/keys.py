"""The keys of this process, in encrypted files or in AWS KMS, as `TREASURY_SIGNER` says. Callers import this alone."""

from importlib import import_module
from typing import Any, Protocol, cast

from django.conf import settings

from escrow.signing.signatures import KeyRefused, Signature, Signed

__all__ = ["KeyRefused", "relayer_addresses", "sign_digest", "sign_transaction", "treasury_address"]

SIGNERS = {"keystore": "escrow.signing.keystore", "kms": "escrow.signing.kms"}


class Signer(Protocol):
    """What each way of keeping keys can do; addresses are 20 bytes. Each raises KeyRefused, nothing else."""

    def treasury_address(self) -> bytes: ...
    def relayer_addresses(self) -> list[bytes]: ...
    def sign_digest(self, address: bytes, digest: bytes) -> Signature: ...
    def sign_transaction(self, address: bytes, transaction: dict[str, Any]) -> Signed: ...


def treasury_address() -> bytes:
    """The address whose key signs new payouts."""
    return _signer().treasury_address()


def relayer_addresses() -> list[bytes]:
    """The relayers whose keys are here."""
    return _signer().relayer_addresses()


def sign_digest(address: bytes, digest: bytes) -> Signature:
    """
    Sign 32 bytes, an EIP-712 digest, as the treasury of that address, the present one or an earlier.

    :raises KeyRefused: if its key is not here or cannot be used
    """
    return _signer().sign_digest(address, digest)


def sign_transaction(address: bytes, transaction: dict[str, Any]) -> Signed:
    """
    Sign a transaction (EIP-1559, as web3 words it) as the relayer of that address.

    :raises KeyRefused: if its key is not here or cannot be used
    """
    return _signer().sign_transaction(address, transaction)


def _signer() -> Signer:
    name = SIGNERS.get(settings.TREASURY_SIGNER)
    if name is None:
        raise KeyRefused(f"TREASURY_SIGNER is one of {', '.join(SIGNERS)}")
    return cast(Signer, import_module(name))
