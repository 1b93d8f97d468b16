"""
What a treasury process of the kill matrix has besides production's code: impatience, and perhaps a place to die.

Celery imports this as one more module of tasks (`celery --app config.celery worker --include …`), after Django is set
up. Everything is told by the environment:

    KILL_QUEUE_PREFIX   its queues, apart from everybody else's on the same Redis
    KILL_CLAIM_SECONDS  how long a claim on a row is good for, and so how long a dead one's is in the way
    KILL_AT             "escrow.relays:_sign after 2": the process kills itself as soon as this has returned twice
    KILL_NOTE           a file that says it did
"""

import os
import signal
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from celery import current_app

from escrow import leases, relays


def doom(place: str, note: str) -> None:
    """Let this process kill itself before or after a call of the named function, the so-manieth."""
    function, when, count = place.split()
    module, _, name = function.partition(":")
    *path, name = name.split(".")
    owner: Any = import_module(module)
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, _fatal(getattr(owner, name), when=when, left=int(count), die=lambda: _die(place, note)))


def _fatal(function: Callable[..., Any], *, when: str, left: int, die: Callable[[], None]) -> Callable[..., Any]:
    @wraps(function)
    def fatal(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if when == "before" and left == 0:
            die()
        answer = function(*args, **kwargs)
        if when == "after" and left == 0:
            die()
        return answer

    return fatal


def _die(place: str, note: str) -> None:
    with open(note, "w") as file:
        file.write(place)
        file.flush()
        os.fsync(file.fileno())
    os.kill(os.getpid(), signal.SIGKILL)


current_app.conf.broker_transport_options = {
    **current_app.conf.broker_transport_options,
    "global_keyprefix": os.environ["KILL_QUEUE_PREFIX"],
}
leases.claim.__wrapped__.__kwdefaults__["seconds"] = int(os.environ["KILL_CLAIM_SECONDS"])  # type: ignore[attr-defined]
relays.RESEND_SECONDS = 1
if os.environ.get("KILL_AT"):
    doom(os.environ["KILL_AT"], os.environ["KILL_NOTE"])
