"""Serialization failures and deadlocks are retried here and never reach a caller."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError

from accounts.errors import TryLater

ATTEMPTS = 3
_AGAIN = {"40001", "40P01"}
_LATER = {"55P03", "57014"}  # a lock that was not got in time, a statement cancelled

Answer = TypeVar("Answer")


def retrying(work: Callable[[], Answer], *, pause: Callable[[float], None] = time.sleep) -> Answer:
    """
    Do the work, again after a deadlock or a serialization failure, at most three times with jitter.

    :raises TryLater: if it did not go through
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except OperationalError as error:
            state = getattr(error.__cause__, "sqlstate", None)
            if state in _LATER or (state in _AGAIN and attempt == ATTEMPTS):
                raise TryLater("Many are doing this at once.") from error
            if state not in _AGAIN:
                raise
        pause(random.uniform(0.01, 0.05) * attempt)
    raise AssertionError("unreachable")
