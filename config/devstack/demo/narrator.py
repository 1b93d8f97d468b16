"""Tells the story at the terminal: one line per step, with the time, who acted, and what happened."""

import time

_BEGAN = time.monotonic()


def chapter(title: str) -> None:
    """Open a part of the story."""
    print(f"\n{title}\n{'─' * len(title)}", flush=True)


def tell(who: str, what: str) -> None:
    """Say one step."""
    print(f"{time.monotonic() - _BEGAN:6.1f} s  {who:<10} {what}", flush=True)


def aside(what: str) -> None:
    """Say what stands in an answer: indented, nobody's act."""
    print(f"{'':21}{what}", flush=True)
