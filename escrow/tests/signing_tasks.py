"""Tasks for a treasury worker under test: sign, fail inside of signing, die."""

import logging
import os
import signal
from typing import Any

from celery import shared_task

log = logging.getLogger(__name__)


@shared_task(ignore_result=True)
def sign(word: str) -> None:
    """Sign and say, as hex, whose signature it is."""
    from eth_account import Account
    from eth_hash.auto import keccak

    from escrow.signing import keys

    digest = keccak(word.encode())
    signature = keys.sign_digest(keys.treasury_address(), digest)
    log.info("said=%s pid=%d signer=%s", word, os.getpid(), Account._recover_hash(digest, vrs=signature)[2:].lower())


@shared_task(ignore_result=True)
def fail_inside() -> None:
    """Let signing fail as deep as we reach, where the key is in every frame."""
    from eth_account.signers.local import LocalAccount

    from escrow.signing import keys

    def break_at_the_key(account: LocalAccount, digest: Any) -> None:
        key = account.key
        raise ZeroDivisionError(f"signing {len(key)} bytes of key")

    honest, LocalAccount.unsafe_sign_hash = LocalAccount.unsafe_sign_hash, break_at_the_key  # type: ignore[method-assign]
    try:
        keys.sign_digest(keys.treasury_address(), bytes(32))
    finally:
        LocalAccount.unsafe_sign_hash = honest  # type: ignore[method-assign]


@shared_task(ignore_result=True)
def fail_inside_and_tell() -> None:
    """The same, told where it is caught: the frames still hold what they held."""
    try:
        fail_inside()
    except ZeroDivisionError:
        log.exception("told where it was caught")


@shared_task(ignore_result=True, acks_late=False)
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
