"""Addresses of the chain as 20 bytes, and their text with the checksum of ERC-55."""

import re

from eth_hash.auto import keccak

ZERO = bytes(20)

_TEXT = re.compile(r"0x[0-9a-fA-F]{40}")


class BadAddress(ValueError):
    """The text is no address, or its checksum is wrong."""


def parse(text: str) -> bytes:
    """
    Read an address from `0x…`.

    All lower or all upper case carries no checksum and is taken as it is; mixed case has to be right.

    :raises BadAddress: if it is no address or its checksum is wrong
    """
    if not _TEXT.fullmatch(text):
        raise BadAddress("not an address: 0x and 40 hexadecimal digits")
    address = bytes.fromhex(text[2:])
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != to_text(address):
        raise BadAddress("the checksum of the address is wrong")
    return address


def to_text(address: bytes) -> str:
    """Write an address as `0x…` with its ERC-55 checksum."""
    digits = bytes(address).hex()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(mark, 16) >= 8 else digit for digit, mark in zip(digits, marks, strict=False)
    )
