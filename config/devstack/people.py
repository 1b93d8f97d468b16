"""The staff accounts of a local stack, made once per state directory, and the codes they sign in with."""

import base64
import os
import sys
import time
from pathlib import Path
from typing import Any

from django_otp.oath import totp

from config.devstack.failures import StackFailed
from config.devstack.state import State

# account in stack.json → what `create_staff` is told about it (groups: disputes.md §2). There are enough of them for
# a ruling above the threshold, its approval, and an appeal that is heard by somebody who did neither.
ROLES = {
    "admin": ("--superuser", "--group", "Moderators"),
    "moderator": ("--group", "Moderators"),
    "senior": ("--group", "Moderators", "--group", "Senior moderators"),
    "second_senior": ("--group", "Senior moderators"),
    "treasurer": ("--group", "Treasurers"),
}
STEP_SECONDS = 30


def commands(state: State) -> list[tuple[str, ...]]:
    """List the commands that make the accounts, or leave them as they are."""
    return [
        (
            *("create_staff", "--username", role, *options),
            *("--password-file", str(_password(state, role)), "--totp-file", str(_totp(state, role))),
            # Nobody could read a secret whose file is gone.
            *(() if _totp(state, role).exists() else ("--new-totp",)),
        )
        for role, options in ROLES.items()
    ]


def accounts(state: State) -> dict[str, dict[str, Any]]:
    """Name the accounts with their passwords and the secrets of their codes, as `stack.json` tells them."""
    return {
        role: {
            "username": role,
            "password": _password(state, role).read_text(),
            "totp_secret": _totp(state, role).read_text().strip(),
        }
        for role in ROLES
    }


def code_of(secret: str, *, at: float) -> str:
    """Reckon the code (RFC 6238) of a base32 secret at a Unix time."""
    return f"{totp(base64.b32decode(secret), t0=int(time.time() - at)):06d}"


def run(role: str) -> int:
    """
    Print the code that signs an account in now, and to the person at the terminal how long it is good.

    :raises StackFailed: if no stack is running here, or no such account is made
    """
    state = State.at(os.environ.get("STATE_DIR"))
    stack = state.read_json("stack.json")
    if not stack:
        raise StackFailed.of("code", f"no stack is running in {state.root}: start it with `make up`, or set STATE_DIR")
    if role not in ROLES:
        raise StackFailed.of("code", f"there is no account {role}: {', '.join(ROLES)}")
    now = time.time()
    print(code_of(stack[role]["totp_secret"], at=now))
    print(f"good for {STEP_SECONDS - int(now) % STEP_SECONDS} s, and once", file=sys.stderr)
    return 0


def _password(state: State, role: str) -> Path:
    return state.secret(f"{role}_password", size=15)


def _totp(state: State, role: str) -> Path:
    return state.root / "secrets" / f"{role}_totp"
