"""`demo`: the whole stack with short windows, the story played on it, everything stopped."""

import os
import subprocess
import sys
from signal import SIGTERM

from config.devstack import applications, ports, up
from config.devstack.failures import Stopped
from config.devstack.processes import dies_with_us
from config.devstack.state import PROJECT, State

# Long enough for a person to follow and for a killed process to come back, short enough to wait for.
WINDOWS = {
    "MIN_REVIEW_SECONDS": "30",
    "MIN_REVISION_SECONDS": "30",
    "DISPUTE_ANSWER_SECONDS": "90",
    "DISPUTE_EVIDENCE_SECONDS": "20",
    "RULING_SLA_SECONDS": "300",
    "APPEAL_SECONDS": "8",
    # The disputed job is above it: one person rules, another agrees.
    "RULING_APPROVAL_THRESHOLD": "30",
    "WITHDRAWAL_COOLING_SECONDS": "3",
}
# Tells the story that the chain is this stack's own, so that its newest blocks may be replaced.
OWN_CHAIN = "--own-chain"


def run() -> int:
    """Play it; answer 0 only if the story ended well and the books agree."""
    for name, value in WINDOWS.items():
        os.environ.setdefault(name, value)
    os.environ.pop("PROCESSES", None)  # the story needs all of them
    if not os.environ.get("PORT") and not ports.is_free(int(up.DEFAULT_PORT)):
        os.environ["PORT"] = str(ports.any_free())
    state = State.at(os.environ.get("STATE_DIR"))
    try:
        with up.started(state) as stack:
            return _play(state, stack)
    except Stopped:
        up.say("Stopped before the end.")
        return 130


def _play(state: State, stack: up.Stack) -> int:
    """Let the story run as a process of its own, while the supervisor sees to the others."""
    own_chain = [] if os.environ.get("CHAIN_RPC_URL") else [OWN_CHAIN]
    story = subprocess.Popen(
        [sys.executable, "-m", "config.devstack.demo.story", *own_chain],
        cwd=PROJECT,
        env=applications.environment(state, stack.servers, process=""),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=dies_with_us(SIGTERM),
    )
    try:
        while story.poll() is None:
            stack.supervisor.pause()
            stack.supervisor.watch()
    finally:
        story.terminate()
        story.wait()
    return 0 if story.returncode == 0 else 1
