"""Outages for tests: parts that went silent, and a naive clock to compare with."""

from collections.abc import Iterable
from datetime import timedelta

from accounts import clock
from marketplace import heartbeats, standstills
from marketplace.models import Heartbeat


def silence(part: str, seconds: float) -> None:
    """Let a part have been seen last so long ago."""
    at = clock.now() - timedelta(seconds=seconds)
    Heartbeat.objects.update_or_create(part=part, defaults={"at": at})


def all_alive() -> None:
    for part in heartbeats.PARTS:
        silence(part, 0)


def move_all(limit: int = 500) -> int:
    """Move until nothing is left; answer how many rows were."""
    count = 0
    while moved := standstills.move_due(limit=limit):
        count += moved
    return count


def ends_at(started: int, ticks: int, outages: Iterable[tuple[int, int]]) -> int:
    """Let a clock tick by hand, skipping every tick in which it stood still; answer when it is over."""
    still = {tick for began, ended in outages for tick in range(began, ended)}
    now = started
    while ticks:
        ticks -= now not in still
        now += 1
    return now
