"""A client of the event stream: what it knows is one id, by which it comes back after each cut and misses nothing."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx2

from config.devstack.demo import told
from config.devstack.demo.agents import PATIENCE_SECONDS, PAUSE_SECONDS, Agent
from config.devstack.demo.narrator import tell


class Stream:
    """Reads an agent's stream in a thread, from what it was told last."""

    def __init__(self, agent: Agent, *, stream_url: str) -> None:
        self._agent, self._url = agent, f"{stream_url}/v1/events/stream"
        self._since = self._last = told.last(agent)
        self._events: list[dict[str, Any]] = []
        self._answer: httpx2.Response | None = None
        self._began = threading.Event()
        self._is_over = False
        threading.Thread(target=self._read_on, daemon=True).start()
        self._began.wait(PATIENCE_SECONDS)
        tell(agent.name, "opens its event stream")

    def end(self) -> None:
        self._is_over = True
        self._break_off()

    def cut(self) -> None:
        """Break the line, as networks do."""
        self._break_off()
        tell(self._agent.name, "loses its event stream, and comes back with the id of the last event (Last-Event-ID)")

    def compare(self) -> None:
        """
        Wait until everything has come, each event once and in order, and compare.

        :raises ToldOtherwise: if `/v1/events` lists anything else
        """
        listed = told.agree(self._agent, self._since, lambda: list(self._events))
        came = [event["id"] for event in self._events]
        if came != listed:
            raise told.ToldOtherwise(f"{self._agent.name}'s stream: events {listed} came as {came}")
        tell(self._agent.name, f"got {len(listed)} events on its stream: each once and in order, across the cut")

    def _break_off(self) -> None:
        if self._answer is not None:
            with contextlib.suppress(OSError):  # it is broken already
                self._answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def _read_on(self) -> None:
        while not self._is_over:
            headers = {"Authorization": self._agent.http.headers["Authorization"]}
            if self._last:
                headers["Last-Event-ID"] = self._last
            try:
                with httpx2.stream("GET", self._url, headers=headers, timeout=30) as self._answer:
                    self._take(self._answer.iter_lines())
            except httpx2.TransportError:
                pass  # cut: it comes back
            threading.Event().wait(PAUSE_SECONDS)

    def _take(self, lines: Iterator[str]) -> None:
        """Read fields until an empty line ends an event (WHATWG HTML, section 9.2); one that is cut off counts not."""
        fields: dict[str, str] = {}
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                continue
            if "data" in fields:
                self._events.append(json.loads(fields["data"]))
            self._last = fields.get("id", self._last)
            self._began.set()
            fields = {}
