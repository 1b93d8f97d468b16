"""The staff accounts of a local stack, made once per state directory."""

from pathlib import Path
from typing import Any

from config.devstack.state import State

# account in stack.json → what `create_staff` is told about it (groups: disputes.md §2)
ROLES = {
    "admin": ("--superuser", "--group", "Moderators"),
    "senior": ("--group", "Moderators", "--group", "Senior moderators"),
    "treasurer": ("--group", "Treasurers"),
}


def commands(state: State) -> list[tuple[str, ...]]:
    """List the commands that make the accounts, or leave them as they are."""
    return [
        ("create_staff", "--username", role, *options, "--password-file", str(_password(state, role)))
        for role, options in ROLES.items()
    ]


def accounts(state: State) -> dict[str, dict[str, Any]]:
    """Name the accounts with their passwords, as `stack.json` tells them; TOTP comes with the disputes' console."""
    return {
        role: {"username": role, "password": _password(state, role).read_text(), "totp_secret": None} for role in ROLES
    }


def _password(state: State, role: str) -> Path:
    return state.secret(f"{role}_password", size=15)
