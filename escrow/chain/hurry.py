"""A node that is asked for a few seconds in all and then left alone: for pages, where somebody waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from escrow.chain import rpc


class HurriedNode(rpc.Node):
    """A node behind a URL, until `seconds` are over; what it has not answered by then is `NodeUnavailable`."""

    def __init__(self, url: str, *, seconds: float) -> None:
        super().__init__(url)
        self._until = time.monotonic() + seconds

    def ask(self, method: str, *params: Any) -> Any:
        self._hurry(method)
        return super().ask(method, *params)

    def ask_many(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        self._hurry("batch")
        return super().ask_many(calls)

    def _hurry(self, what: str) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise rpc.NodeUnavailable(f"{what}: no time is left")
        self._provider._request_kwargs = {"timeout": left}
