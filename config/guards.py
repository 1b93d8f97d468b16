"""What production refuses to start with."""

import os
import re
import stat
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

SECRETS = (
    "SECRET_KEY",
    "TOKEN_PEPPER",
    "DEPOSIT_SALT_SECRET",
    "DOCUMENT_KEY",
    "WEBHOOK_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "CHAIN_RPC_URL",
)
MUST_BE_SET = (*SECRETS, "DOMAIN", "TRUSTED_PROXIES")
# Further secrets, where they are used.
MAY_BE_SET = (
    "SECRET_KEY_FALLBACKS",
    "DATABASE_REPLICA_URL",
    "TREASURY_PASSPHRASE",
    "CHAIN_SECOND_RPC_URL",
    "OPS_WEBHOOK_URL",
    "EMAIL_HOST_PASSWORD",
)

# What each way of keeping keys needs.
SIGNERS = {
    "keystore": ("TREASURY_KEYSTORE", "RELAYER_KEYSTORES"),
    "kms": ("TREASURY_KMS_KEY", "RELAYER_KMS_KEYS"),
}


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
    wrong += [
        f"{name} has the value of the local stack"
        for name in SECRETS
        if str(settings.get(name, "")).startswith("local-")
    ]
    wrong += [f"{path} is readable by others: chmod 600" for path in _files(settings) if _is_open_to_others(path)]
    if (key := settings.get("DOCUMENT_KEY")) and not _is_signing_key(key):
        wrong.append("DOCUMENT_KEY is not the base64url of 32 bytes")
    if settings.get("EGRESS_LOOPBACK"):
        wrong.append("EGRESS_LOOPBACK lets strangers reach this machine")
    if settings["DEBUG"]:
        wrong.append("DEBUG is on")
    if not settings["ALLOWED_HOSTS"] or any(host.startswith(("*", ".")) for host in settings["ALLOWED_HOSTS"]):
        wrong.append("ALLOWED_HOSTS must name hosts, without wildcards")
    if settings["OPEN_TRUST_LEVEL"] is not None:
        wrong.append("OPEN_TRUST_LEVEL gives every stranger a trust level")
    if os.environ.get("RATE_LIMITS", "on") != "on":
        wrong.append("RATE_LIMITS may be off only in the local stack")
    second = settings.get("CHAIN_SECOND_RPC_URL", "")
    if second and second == settings["CHAIN_RPC_URL"]:
        wrong.append("CHAIN_SECOND_RPC_URL is the node of CHAIN_RPC_URL: that is no second opinion")
    if settings.get("OPS_WEBHOOK_URL", "").startswith("http:"):
        wrong.append("OPS_WEBHOOK_URL must be https")
    if settings.get("KMS_ENDPOINT_URL", "").startswith("http:"):
        wrong.append("KMS_ENDPOINT_URL must be https")
    if settings.get("TREASURY_SIGNER", "keystore") not in SIGNERS:
        wrong.append(f"TREASURY_SIGNER must be one of {', '.join(SIGNERS)}")
    elif settings.get("BAILEE_PROCESS") == "treasury":
        wrong += [f"{name} is not set: the treasury could not sign" for name in _missing_keys(settings)]
    if wrong:
        raise ImproperlyConfigured("production refuses to start: " + "; ".join(wrong))


def _is_given(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def _is_signing_key(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]=?", text))


def _missing_keys(settings: Mapping[str, Any]) -> list[str]:
    return [name for name in SIGNERS[settings.get("TREASURY_SIGNER", "keystore")] if not settings.get(name)]


def _files(settings: Mapping[str, Any]) -> list[str]:
    """Name the files of secrets and of keys that this process can see."""
    given = [os.environ.get(f"{name}_FILE", "") for name in (*SECRETS, *MAY_BE_SET)]
    keys = (
        settings["TREASURY_KEYSTORE"],
        *settings.get("TREASURY_EARLIER_KEYSTORES", []),
        *settings["RELAYER_KEYSTORES"],
    )
    return [path for path in (*given, *keys) if path]


def _is_open_to_others(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:  # it is for another process, whose directory is closed to this one
        return False
