"""Bailee's own processes: how each is started, what it may know, and how to see that it is ready."""

import os
import sys
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from config.devstack.failures import StackFailed
from config.devstack.processes import Child
from config.devstack.servers import Servers
from config.devstack.state import State
from config.devstack.supervisor import Supervisor

BINARIES = Path(sys.executable).parent
# Drawn once per state directory, given to the children by file: what stands in the environment can be read in /proc.
# (The keystores of the treasury, with their passphrase, are made by `deploy_contracts` in STATE_DIR/keys.)
# Each with its number of random bytes.
SECRETS = {"SECRET_KEY": 48, "TOKEN_PEPPER": 48, "DEPOSIT_SALT_SECRET": 48, "DOCUMENT_KEY": 32, "WEBHOOK_KEY": 32}


class Application(NamedTuple):
    """A process of the application and its command."""

    name: str
    command: tuple[str | Path, ...]


def table(*, port: int, stream_port: int = 0) -> tuple[Application, ...]:
    """List the processes of architecture.md."""
    celery = (BINARIES / "celery", "--app", "config.celery")
    return (
        Application(
            "web",
            (
                *(BINARIES / "granian", "--interface", "wsgi", "config.wsgi:application"),
                *("--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--blocking-threads", "4"),
                *("--respawn-failed-workers", "--workers-kill-timeout", "4", "--no-ws"),
            ),
        ),
        Application(
            "stream",
            (
                *(BINARIES / "granian", "--interface", "asginl", "config.asgi:application"),
                *("--host", "127.0.0.1", "--port", str(stream_port), "--workers", "1"),
                # An open stream is a request that is being answered: more of them than the process has seats.
                *("--backlog", "4096", "--backpressure", "4096"),
                *("--respawn-failed-workers", "--workers-kill-timeout", "4", "--no-ws"),
            ),
        ),
        Application("worker", (*celery, *_worker("worker", "deadlines,chain,default", "prefork", 2))),
        Application("webhooks", (*celery, *_worker("webhooks", "webhooks", "prefork", 1))),
        Application("treasury", (*celery, *_worker("treasury", "treasury", "prefork", 1))),
        Application("beat", (*celery, "beat", "--loglevel", "INFO", "--pidfile=")),
    )


def wanted(*, port: int, stream_port: int = 0) -> tuple[Application, ...]:
    """
    List those that `PROCESSES` names: all without it, and with `none` only the servers run.

    A runbook may want the treasury up and web closed.

    :raises StackFailed: if it names one that there is not
    """
    known = table(port=port, stream_port=stream_port)
    names = os.environ.get("PROCESSES", "").replace(",", " ").split() or [application.name for application in known]
    if names == ["none"]:
        return ()
    if strangers := set(names) - {application.name for application in known}:
        raise StackFailed.of("PROCESSES", f"there is no process {', '.join(sorted(strangers))}")
    return tuple(application for application in known if application.name in names)


def _worker(name: str, queues: str, pool: str, concurrency: int) -> Iterable[str]:
    return (
        *("worker", "--hostname", f"{name}@bailee", "--queues", queues, "--pool", pool),
        *("--concurrency", str(concurrency), "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
    )


# --- what they know ---------------------------------------------------------------------------------------------------
def environment(state: State, servers: Servers, *, process: str) -> dict[str, str]:
    """Build the environment of a process; secrets go by file unless whoever started the stack set them."""
    env = {**os.environ, "STATE_DIR": str(state.root), "BAILEE_PROCESS": process, "PYTHONUNBUFFERED": "1"}
    env.setdefault("STATIC_ROOT", str(state.directory("static")))
    env.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    env.setdefault("CHAIN_RPC_URL", servers.chain_rpc_url)
    for name, url in (("DATABASE_URL", servers.database_url), ("REDIS_URL", servers.redis_url)):
        if not env.get(name):
            env[f"{name}_FILE"] = str(state.write(f"secrets/{name}", url))
    for name, size in SECRETS.items():
        if not env.get(name) and not env.get(f"{name}_FILE"):
            env[f"{name}_FILE"] = str(state.secret(name, size=size))
    return env


# --- starting ---------------------------------------------------------------------------------------------------------
def start(supervisor: Supervisor, servers: Servers, *, port: int, stream_port: int) -> None:
    """Start all of them at once and wait until each is at work."""
    supervisor.layer()
    state = supervisor.state
    children = {}
    for application in wanted(port=port, stream_port=stream_port):
        env = environment(state, servers, process=application.name)
        children[application.name] = supervisor.start(application.name, _recipe(application, state, env))
    ready: dict[str, Callable[[], bool]] = {
        "web": lambda: answers(f"http://127.0.0.1:{port}/readyz"),
        "stream": lambda: answers(f"http://127.0.0.1:{stream_port}/readyz"),
        "worker": _takes_tasks("worker", servers.redis_url),
        "webhooks": _takes_tasks("webhooks", servers.redis_url),
        "treasury": _takes_tasks("treasury", servers.redis_url),
    }
    for name, child in children.items():
        supervisor.wait_until(child, ready.get(name, child.is_running), within=60)


def _recipe(application: Application, state: State, env: dict[str, str]) -> Callable[[], Child]:
    def recipe() -> Child:
        return Child(application.name, application.command, log=state.log(application.name), env=env)

    return recipe


def answers(url: str) -> bool:
    """Tell whether a page answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


def _takes_tasks(name: str, broker: str) -> Callable[[], bool]:
    """Ask a worker by the broker, as Celery's own `inspect ping` does."""
    from celery import Celery

    control = Celery(broker=broker, set_as_current=False).control
    return lambda: bool(control.ping(destination=[f"{name}@bailee"], timeout=0.5))
