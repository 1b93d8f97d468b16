"""Amounts of USDC: micro-USDC as integers here, decimal strings over HTTP."""

from decimal import Decimal


def units(text: str) -> int:
    return int(Decimal(text) * 1_000_000)


def text(amount_units: int) -> str:
    return f"{Decimal(amount_units) / 1_000_000:.6f}"


def short(amount: int | str) -> str:
    """Write an amount for people: as many digits as it needs, two at least."""
    whole, _, fraction = (amount if isinstance(amount, str) else text(amount)).partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2} USDC"
