"""
Who of the staff came and went, and who tried to, in the audit log.

Django tells it by signals alone; elsewhere there are none.
"""

from typing import Any

from django.contrib.auth import signals
from django.http import HttpRequest

from accounts import audit
from accounts.models import User


def listen() -> None:
    """Have Django tell of sign-ins from now on."""
    signals.user_logged_in.connect(_signed_in, dispatch_uid="accounts.sign_ins")
    signals.user_login_failed.connect(_failed, dispatch_uid="accounts.sign_ins")
    signals.user_logged_out.connect(_signed_out, dispatch_uid="accounts.sign_ins")


def _signed_in(sender: Any, request: HttpRequest | None, user: User, **_: Any) -> None:
    audit.record("staff.signed_in", user=user, subject=f"user:{user.pk}")


def _failed(sender: Any, credentials: dict[str, Any], **_: Any) -> None:
    """What was typed is not kept: it may be somebody's password. Whom it would have let in is known by number."""
    name = credentials.get("username")
    known = isinstance(name, str) and "\x00" not in name
    tried = User.objects.filter(username=name).only("pk").first() if known else None
    # Nobody is known to have done it: the person whose name it was is the subject.
    audit.record("staff.sign_in_failed", subject=f"user:{tried.pk}" if tried else "user:unknown")


def _signed_out(sender: Any, user: User | None, **_: Any) -> None:
    if user is not None:
        audit.record("staff.signed_out", user=user, subject=f"user:{user.pk}")
