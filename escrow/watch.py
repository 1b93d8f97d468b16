"""The treasury watch: what may be wrong with the money on the chain, said aloud; where it must be, payouts paused."""

from __future__ import annotations

from contextlib import suppress

from django.conf import settings
from django.db import transaction

from accounts import alerts, pauses


@transaction.atomic
def alarm(kind: str, subject: str = "", detail: str = "") -> bool:
    """
    Sound an alert, and pause withdrawals where `TREASURY_PAUSE_ON` names its kind; True if it was not known.

    Said again while it goes on, it pauses again what somebody resumed too early.
    """
    is_new = alerts.sound(kind, subject, detail=detail)
    if kind in settings.TREASURY_PAUSE_ON and not pauses.is_paused(pauses.Flag.WITHDRAWALS):
        _pause_withdrawals(kind, subject, detail)
    return is_new


def _pause_withdrawals(kind: str, subject: str, detail: str) -> None:
    reason = f"{kind} {subject}".strip() + (f": {detail}" if detail else "")
    with suppress(pauses.AlreadySet):  # another alarm was first: its cause stays
        pauses.pause(pauses.Flag.WITHDRAWALS, reason=reason, cause=kind)
