"""How the treasury page writes addresses, hashes, gas and counts."""

import re
from decimal import Decimal
from typing import Any

from django import template

from escrow.chain import addresses
from escrow.console import words

register = template.Library()
_WEI = Decimal(10**18)


@register.filter
def address(raw: Any) -> str:
    """Write an address with its checksum, whole: people compare it."""
    return "–" if raw is None else addresses.to_text(bytes(raw))


@register.filter
def short_address(raw: Any) -> str:
    """Write an address for where it only has to be recognised: 0x1234…abcd."""
    text = address(raw)
    return text if len(text) < 12 else f"{text[:8]}…{text[-6:]}"


@register.filter
def hash(raw: Any) -> str:
    return "–" if raw is None else f"0x{bytes(raw).hex()}"


@register.filter
def short_hash(raw: Any) -> str:
    text = hash(raw)
    return text if len(text) < 12 else f"{text[:10]}…{text[-6:]}"


@register.filter
def ether(wei: int | None) -> str:
    """Write wei as ETH, to a hundred-thousandth, never rounded up."""
    if wei is None:
        return "–"
    return f"{(Decimal(wei) / _WEI).quantize(Decimal('0.00001'), rounding='ROUND_FLOOR')}"


@register.filter
def gwei(wei: int | None) -> str:
    return "–" if wei is None else f"{Decimal(wei) / 10**9:.2f}"


@register.filter
def alert_words(kind: str) -> str:
    return words.alert(kind)


@register.filter
def grouped(text: str) -> str:
    """Set the thousands of an amount apart with narrow spaces: 1 234 567.000000."""
    whole, point, fraction = text.partition(".")
    return re.sub(r"(?<=\d)(?=(\d{3})+$)", "\u202f", whole) + point + fraction
