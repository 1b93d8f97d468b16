"""When both parties are reminded of a clock: with a quarter of its time left, at most a day, at least five minutes."""

from datetime import datetime, timedelta

LONGEST = timedelta(days=1)
SHORTEST = timedelta(minutes=5)


def moment(start: datetime, end: datetime) -> datetime:
    """Say when to remind of a clock; at once where the whole of it is shorter than five minutes."""
    return max(start, end - max(SHORTEST, min(LONGEST, (end - start) / 4)))
