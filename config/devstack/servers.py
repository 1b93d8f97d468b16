"""The three servers Bailee stands on: each embedded, or the one named in the environment."""

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from config.devstack import anvil, postgres, redis
from config.devstack.failures import StackFailed
from config.devstack.processes import Child
from config.devstack.supervisor import Supervisor

DATABASE = "bailee"
# A server that the environment names may be starting itself.
GIVEN_SECONDS = 5.0
READY: dict[str, Callable[[str], bool]] = {
    "DATABASE_URL": postgres.is_ready,
    "REDIS_URL": redis.is_ready,
    "CHAIN_RPC_URL": anvil.is_ready,
}


class Servers(NamedTuple):
    """Where the servers answer."""

    database_url: str
    redis_url: str
    chain_rpc_url: str


def start(supervisor: Supervisor, *, throwaway: bool = False) -> Servers:
    """
    Start what the environment does not name, all at once, and wait until each answers.

    `throwaway` is for tests: no fsync, many connections, and a superuser, who may empty append-only tables.
    """
    supervisor.layer()
    given = {name: os.environ.get(name, "") for name in READY}
    for name, url in given.items():
        if url:
            _expect(supervisor, name, url)

    children: dict[str, Child] = {}
    starts = {
        "CHAIN_RPC_URL": lambda: anvil.start(supervisor),
        "REDIS_URL": lambda: redis.start(supervisor),
        "DATABASE_URL": lambda: _database(supervisor, throwaway=throwaway),
    }
    for name, start_server in starts.items():
        if not given[name]:
            children[name], given[name] = start_server()
    for name, child in children.items():
        supervisor.wait_until(child, partial(READY[name], given[name]), within=30)
    return Servers(given["DATABASE_URL"], given["REDIS_URL"], given["CHAIN_RPC_URL"])


def _expect(supervisor: Supervisor, name: str, url: str) -> None:
    for _ in range(int(GIVEN_SECONDS * 10)):
        if READY[name](url):
            return
        supervisor.pause(0.1)
    raise StackFailed.of(name, "the server named by it does not answer")


def _database(supervisor: Supervisor, *, throwaway: bool) -> tuple[Child, str]:
    child, port = postgres.start(supervisor, throwaway=throwaway)
    password = supervisor.state.secret("POSTGRES_PASSWORD").read_text()
    superuser = f"postgres://postgres:{password}@127.0.0.1:{port}"
    supervisor.wait_until(child, lambda: postgres.is_ready(f"{superuser}/postgres"), within=60)

    own = supervisor.state.secret("DATABASE_PASSWORD").read_text()
    postgres.ensure_database(f"{superuser}/postgres", name=DATABASE, password=own)
    if throwaway:
        return child, f"{superuser}/{DATABASE}"
    return child, f"postgres://{DATABASE}:{own}@127.0.0.1:{port}/{DATABASE}"
