"""The three servers Bailee stands on: each embedded, or the one named in the environment."""

import os
from collections.abc import Callable
from typing import NamedTuple

from config.devstack import anvil, postgres, redis
from config.devstack.failures import StackFailed
from config.devstack.processes import Child
from config.devstack.supervisor import Supervisor

DATABASE = "bailee"
GIVEN_SECONDS = 10.0


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
    chain, chain_url = _given("CHAIN_RPC_URL") or anvil.start(supervisor)
    broker, redis_url = _given("REDIS_URL") or redis.start(supervisor)
    database, database_url = _given("DATABASE_URL") or _database(supervisor, throwaway=throwaway)
    _wait(supervisor, "anvil", chain, lambda: anvil.is_ready(chain_url))
    _wait(supervisor, "redis", broker, lambda: redis.is_ready(redis_url))
    _wait(supervisor, "postgres", database, lambda: postgres.is_ready(database_url))
    return Servers(database_url, redis_url, chain_url)


def _given(variable: str) -> tuple[None, str] | None:
    url = os.environ.get(variable)
    return (None, url) if url else None


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


def _wait(supervisor: Supervisor, name: str, child: Child | None, ready: Callable[[], bool]) -> None:
    if child is not None:
        supervisor.wait_until(child, ready, within=30)
        return
    for _ in range(int(GIVEN_SECONDS * 10)):
        if ready():
            return
        supervisor.pause(0.1)
    raise StackFailed.of(name, "the server named in the environment does not answer")
