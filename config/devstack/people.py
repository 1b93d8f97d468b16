"""The staff accounts of a local stack, made once per state directory."""

import sys
from collections.abc import Mapping
from typing import Any

from config.devstack.state import State
from config.devstack.supervisor import Supervisor

# account in stack.json → its groups (disputes.md §2)
ROLES = {
    "admin": ("Moderators",),
    "senior": ("Moderators", "Senior moderators"),
    "treasurer": ("Treasurers",),
}


def prepare(supervisor: Supervisor, env: Mapping[str, str]) -> None:
    """Make the accounts, or leave them as they are."""
    for role in ROLES:
        _password(supervisor.state, role)
    supervisor.run("create_staff", [sys.executable, "manage.py", "create_staff"], env=env)


def accounts(state: State) -> dict[str, dict[str, Any]]:
    """Name the accounts with their passwords, as `stack.json` tells them."""
    return {
        role: {"username": role, "password": _password(state, role).read_text(), "totp_secret": None} for role in ROLES
    }


def _password(state: State, role: str) -> Any:
    return state.secret(f"{role}_password")
