"""Ports of the embedded servers: free ones below the range from which the system takes outgoing connections."""

import json
import random
import socket
from collections.abc import Collection

from config.devstack.state import State

FIRST, LAST = 20_000, 32_000


def remembered(state: State, name: str) -> int:
    """Take the port this state directory used last time, or a free one if it is taken or unknown; remember it."""
    path = state.root / "ports.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    port = known.get(name)
    if port is None or not is_free(port):
        port = any_free(excluding=set(known.values()))
        state.write("ports.json", json.dumps({**known, name: port}, indent=2))
    return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether someone could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def any_free(*, excluding: Collection[int] = ()) -> int:
    """Find a port that nobody listens on."""
    while True:
        port = random.randrange(FIRST, LAST)
        if port not in excluding and is_free(port):
            return port
