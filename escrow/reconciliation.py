"""
Books against chain: what the ledger says, and what the token says.
"""

from __future__ import annotations

from escrow import custody


def compare() -> custody.Custody:
    """Compare the ledger's custody with what all our addresses hold, at the newest final block that was scanned."""
    return custody.read(every_address=True)
