"""`manage`: a command of manage.py, run as the processes of the stack in this state directory are."""

import os
import subprocess
import sys
from collections.abc import Sequence

from config.devstack import applications
from config.devstack.failures import StackFailed
from config.devstack.servers import Servers
from config.devstack.state import PROJECT, State


def run(arguments: Sequence[str]) -> int:
    """
    Run it with the running stack's servers and secrets; answer its exit status.

    `BAILEE_PROCESS=treasury` in the environment lets it use the keys, as in `register_keys`.

    :raises StackFailed: if no stack is running here
    """
    state = State.at(os.environ.get("STATE_DIR"))
    stack = state.read_json("stack.json")
    if not stack:
        raise StackFailed.of(
            "manage", f"no stack is running in {state.root}: start it with `make up`, or set STATE_DIR"
        )
    servers = Servers(stack["database_url"], stack["redis_url"], stack["chain_rpc_url"])
    env = applications.environment(state, servers, process=os.environ.get("BAILEE_PROCESS", ""))
    return subprocess.run([sys.executable, "manage.py", *arguments], cwd=PROJECT, env=env, check=False).returncode
