"""The treasury on the home page, from rows alone: what is wrong, what waits, what is paused."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from accounts.edge.fields import units_to_text
from accounts.models import Alert, Pause
from escrow.console import words
from escrow.models import TreasuryReading, Withdrawal
from escrow.templatetags.treasury import grouped

STALE_SECONDS = 180  # three readings of the watch


class Light(NamedTuple):
    value: str
    label: str
    tone: str  # calm, soon, late


def of(user: Any) -> list[Light]:
    """Gather the lights, for whoever may see the treasury; the page behind them asks the chain."""
    if not user.has_perm("escrow.view_treasury"):
        return []
    alerts = Alert.objects.filter(cleared_at=None).count()
    paused = [words.FLAGS[flag][0] for flag in Pause.objects.filter(paused=True).values_list("flag", flat=True)]
    held = _held_for(user)
    return [
        _agreement(TreasuryReading.objects.order_by("-read_at").first()),
        Light(str(alerts), "Alerts", "late" if alerts else "calm"),
        Light(str(held), "Payouts wait for a treasurer", "soon" if held else "calm"),
        Light(", ".join(paused) or "None", "Paused", "late" if paused else "calm"),
    ]


def _held_for(user: Any) -> int:
    """How many held payouts this person could decide; all of them, for who only looks."""
    held = Withdrawal.objects.filter(state=Withdrawal.State.HELD)
    if user.has_perm("escrow.approve_withdrawal"):
        held = held.exclude(Q(asked_by=user) | Q(agent__owner=user) | Q(approvals__by=user))
    return held.count()


def _agreement(reading: TreasuryReading | None) -> Light:
    if reading is None:
        return Light("?", "The chain was never read", "late")
    age = int((timezone.now() - reading.read_at).total_seconds())
    if age > max(STALE_SECONDS, settings.CHAIN_HEAD_MAX_AGE_SECONDS):
        return Light("?", f"Ledger less chain was last read {reading.read_at:%Y-%m-%d %H:%M} UTC", "late")
    holdings_units = reading.treasury_units + reading.cold_units + reading.unswept_units
    wrong = reading.difference_units or reading.shortfall_units
    if reading.shortfall_units and not reading.difference_units:
        return Light(units_to_text(reading.shortfall_units), "USDC of shortfall", "late")
    return Light(
        units_to_text(reading.difference_units) if wrong else "Agree",
        f"Ledger and chain, {grouped(units_to_text(holdings_units))} USDC",
        "late" if wrong else "calm",
    )
