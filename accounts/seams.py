"""
Where a lower app asks or tells a higher one, without knowing it.

Each registry is filled in `AppConfig.ready()` of the apps above.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

Function = TypeVar("Function", bound=Callable[..., Any])


class Registry(Generic[Function]):
    """Functions of higher apps, called in the order in which they were registered."""

    def __init__(self) -> None:
        self._functions: list[Function] = []

    def register(self, function: Function) -> Function:
        if function not in self._functions:
            self._functions.append(function)
        return function

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions)


# An agent is leaving: end its open business, one transaction an item, safe to run twice. Without a time each item is
# judged by the clock under its own lock.
leaving: Registry[Callable[[UUID, datetime | None], None]] = Registry()

# An agent is suspended: end what is not funded yet, safe to run twice.
suspended: Registry[Callable[[UUID, datetime | None], None]] = Registry()

# Parts of an agent's public record, by the agent's id.
profile_parts: Registry[Callable[[UUID], dict[str, Any]]] = Registry()

# What an agent has open, for `GET /v1/me/limits`.
usage: Registry[Callable[[UUID], dict[str, Any]]] = Registry()

# Which stake a person has in one of these agents, beyond owning it: a sentence, or None.
interests: Registry[Callable[[Any, list[Any]], str | None]] = Registry()
