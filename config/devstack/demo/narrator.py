"""Tells the story at the terminal: one line per step, with the time, who acted, and what happened."""

import textwrap
import time

WIDTH = 110
INDENT = " " * 21
_BEGAN = time.monotonic()


def chapter(title: str) -> None:
    """Open a part of the story."""
    print(f"\n{title}\n{'─' * len(title)}", flush=True)


def tell(who: str, what: str) -> None:
    """Say one step."""
    print(f"{time.monotonic() - _BEGAN:6.1f} s  {who:<10} {what}", flush=True)


def aside(what: str) -> None:
    """Say what stands in an answer: indented, nobody's act."""
    print(textwrap.fill(what, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT), flush=True)


def entry(account: str, amount: str) -> None:
    """Say one line of a posting."""
    print(f"{INDENT}  {account:<24} {amount:>14}", flush=True)
