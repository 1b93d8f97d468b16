"""
The door of the `stream` process; everything else is served by wsgi.py, which is faster for plain views.

A request is answered as by wsgi.py, middleware and refusals included, by one of a few threads. An answer that is a
stream is then held by the event loop alone: Django's own handler would keep a thread for each.
"""

import asyncio
import contextlib
import io
import os
import resource
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.db import close_old_connections
from django.http.response import HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from accounts.events.hub import Hub  # noqa: E402 (it needs the settings)
from accounts.events.stream import Streamed  # noqa: E402

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS = 2


class Door:
    """Answer a request in a thread; hold what is a stream."""

    def __init__(self) -> None:
        self.handler = BaseHandler()
        self.handler.load_middleware()
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="door")
        self.hub: Hub | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} here")
        hub = self.hub = self.hub or self._opened()
        response = await asyncio.get_running_loop().run_in_executor(self.threads, self._answer, scope, hub)
        try:
            await send({"type": "http.response.start", "status": response.status_code, "headers": _headers(response)})
            if isinstance(response, Streamed):
                await hub.hold(response.asked, _writer(send), _gone(receive))
            await send({"type": "http.response.body", "body": getattr(response, "content", b"")})
        finally:
            response.close()

    def _opened(self) -> Hub:
        """Open the hub within the loop, and end its streams when the process is told to end."""
        hub, loop = Hub(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # The server's own handler is the loop's, which hears of signals another way and is not replaced by this.
            with contextlib.suppress(ValueError):  # not the main thread: then somebody else takes signals
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(hub.end))
        return hub

    def _answer(self, scope: Message, hub: Hub) -> HttpResponseBase:
        close_old_connections()
        try:
            request = ASGIRequest(scope, io.BytesIO())
            request.urlconf = "config.stream_urls"
            request.seats = hub.seats  # type: ignore[attr-defined]
            return self.handler.get_response(request)
        finally:
            close_old_connections()


def _headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    return headers + [(b"set-cookie", morsel.OutputString().encode("latin-1")) for morsel in response.cookies.values()]


def _writer(send: Send) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    return write


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# A stream is an open file: as many as this process may have.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
application = Door()
