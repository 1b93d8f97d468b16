"""What signing gives, or that a key refuses: the same whichever way keys are kept."""

from collections.abc import Callable, Iterable
from typing import NamedTuple


class KeyRefused(Exception):
    """A key is not here, or cannot be used: its file, its passphrase or its service says no. Nothing was signed."""


class Signature(NamedTuple):
    """An ECDSA signature over secp256k1: `v` is 27 or 28, `s` in the lower half (EIP-2)."""

    v: int
    r: int
    s: int


class Signed(NamedTuple):
    """A signed transaction: its bytes and its hash."""

    raw: bytes
    hash: bytes


def addresses_of(names: Iterable[str], address_of: Callable[[str], bytes]) -> tuple[list[bytes], list[str]]:
    """The addresses of those of these keys that open, and why the others do not."""
    found, refusals = [], []
    for name in filter(None, names):
        try:
            found.append(address_of(name))
        except KeyRefused as refusal:
            refusals.append(str(refusal))
    return found, refusals
