"""`up`: the whole stack, until Ctrl-C or TERM."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from config.devstack import applications, people, ports, servers
from config.devstack.failures import StackFailed, Stopped
from config.devstack.servers import Servers
from config.devstack.state import PROJECT, State
from config.devstack.supervisor import Supervisor

DEFAULT_PORT = "8000"


class Stack(NamedTuple):
    """A running stack: who watches it, and where its servers answer."""

    supervisor: Supervisor
    servers: Servers


def run() -> int:
    """Start everything, print where it is, stay until asked to stop."""
    state = State.at(os.environ.get("STATE_DIR"))
    try:
        with started(state) as stack:
            _print_addresses(state)
            while True:
                stack.supervisor.pause(0.1)
                stack.supervisor.watch()
    except Stopped:
        say("Stopped. `make up` goes on from here.")
    return 0


@contextlib.contextmanager
def started(state: State) -> Iterator[Stack]:
    """
    Run the whole stack; when this is entered `stack.json` is written and every process is at work.

    :raises StackFailed: naming the part that failed
    :raises Stopped: if someone asked to stop meanwhile
    """
    supervisor = Supervisor(state, say=say)
    with supervisor.running():
        port, stream_port = _port(), ports.remembered(state, "stream")
        state.remove("stack.json")
        say(f"Starting PostgreSQL, Redis and the chain (state: {state.root})")
        addresses = servers.start(supervisor)
        _prepare(supervisor, addresses)
        say(f"Starting {', '.join(one.name for one in applications.wanted(port=port)) or 'no process'}")
        applications.start(supervisor, addresses, port=port, stream_port=stream_port)
        supervisor.tell_guard(f"x {state.root / 'stack.json'}")
        _write_stack(state, addresses, port=port, stream_port=stream_port)
        try:
            yield Stack(supervisor, addresses)
        finally:
            state.remove("stack.json")
            say("Stopping")


def say(line: str) -> None:
    """Tell the person at the terminal, with the time."""
    with contextlib.suppress(BrokenPipeError):
        print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def _port() -> int:
    wanted = os.environ.get("PORT") or DEFAULT_PORT
    if not wanted.isdigit() or not 0 < int(wanted) < 65_536:
        raise StackFailed.of("web", f"PORT={wanted} is not a port")
    if not ports.is_free(int(wanted)):
        raise StackFailed.of("web", f"port {wanted} is in use; set PORT to another")
    return int(wanted)


def _prepare(supervisor: Supervisor, addresses: Servers) -> None:
    supervisor.layer()
    env = applications.environment(supervisor.state, addresses, process="")
    say("Preparing tables, schedule, staff accounts, and the contracts on the chain")
    supervisor.run("preparation", [sys.executable, "-m", "config.devstack.preparation"], env=env)


def _write_stack(state: State, addresses: Servers, *, port: int, stream_port: int) -> None:
    web = f"http://127.0.0.1:{port}"
    streams = any(one.name == "stream" for one in applications.wanted(port=port))
    stack = {
        "web_url": web,
        # Without the process, the web serves the same address as well as it can.
        "stream_url": f"http://127.0.0.1:{stream_port}" if streams else web,
        "database_url": addresses.database_url,
        "redis_url": addresses.redis_url,
        "chain_rpc_url": addresses.chain_rpc_url,
        "pid": os.getpid(),
        **people.accounts(state),
    }
    state.write("stack.json", json.dumps(stack, indent=2) + "\n")


def _named_state(state: State) -> str:
    return "" if state.root == PROJECT / ".local" else f"STATE_DIR={state.root} "


def _print_addresses(state: State) -> None:
    stack = state.read_json("stack.json")
    web = stack["web_url"]
    print(
        f"""
Bailee is running.

  API          {web}/v1
  Stream       {stack["stream_url"]}/v1/events/stream
  API docs     {web}/docs        (OpenAPI 3.1: {web}/v1/openapi.json)
  Admin        {web}/admin/      user {stack["admin"]["username"]}, password {stack["admin"]["password"]}
               and a code: {_named_state(state)}{sys.executable} -m config.devstack code admin
  Accounts     {state.root / "stack.json"}   ({", ".join(people.ROLES)})
  Chain        {state.root / "chain.json"}   (node, test USDC, faucet)
  Logs         {state.logs}

Stop it with Ctrl-C, or `kill {stack["pid"]}`. The next `make up` goes on where this one stopped.
""",
        flush=True,
    )
