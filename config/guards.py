"""What production refuses to start with."""

import os
import stat
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

MUST_BE_SET = ("SECRET_KEY", "TOKEN_PEPPER", "DATABASE_URL", "REDIS_URL", "CHAIN_RPC_URL", "DOMAIN", "TRUSTED_PROXIES")


def refuse_unsafe_production(settings: Mapping[str, Any]) -> None:
    """
    Stop a production process that would run on a local default.

    :raises ImproperlyConfigured: with everything that is wrong, in one message
    """
    if settings["BAILEE_ENV"] not in ("local", "production"):
        raise ImproperlyConfigured("BAILEE_ENV must be 'local' or 'production'")
    if settings["BAILEE_ENV"] == "local":
        return

    wrong = [f"{name} (or {name}_FILE) is not set" for name in MUST_BE_SET if not _is_given(name)]
    wrong += [f"{path} is readable by others: chmod 600" for path in _secret_files() if _readable_by_others(path)]
    if settings["DEBUG"]:
        wrong.append("DEBUG is on")
    if not settings["ALLOWED_HOSTS"] or any(host.startswith("*") or host == "." for host in settings["ALLOWED_HOSTS"]):
        wrong.append("ALLOWED_HOSTS must name hosts, without wildcards")
    if settings["OPEN_TRUST_LEVEL"] is not None:
        wrong.append("OPEN_TRUST_LEVEL gives every stranger a trust level")
    if os.environ.get("RATE_LIMITS", "on") != "on":
        wrong.append("RATE_LIMITS may be off only in the local stack")
    if wrong:
        raise ImproperlyConfigured("production refuses to start: " + "; ".join(wrong))


def _is_given(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def _secret_files() -> list[str]:
    return [path for name, path in os.environ.items() if name.endswith("_FILE") and os.path.exists(path)]


def _readable_by_others(path: str) -> bool:
    return bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
