"""
The figures of the desk's charts, each a table of its own that reads without the chart.

Counts are of cases and rulings, money is micro-USDC.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Q

from disputes.console import keyset, queue
from disputes.models import Dispute, Ruling
from escrow.chain import network
from escrow.console import figures

RULINGS = timedelta(days=90)
# Which way a ruling went, in the words of the page.
OUTCOMES = {
    "seller": "Seller wins fully",
    "split": "Split",
    "client": "Client wins fully",
    "redo": "Redo",
    "default": "By default",
}


class Bar(NamedTuple):
    """One line of a table and one bar of its chart."""

    name: str
    value: int
    late: int = 0  # of them


def ages(at: datetime) -> list[Bar]:
    """Count the living cases by how long they are open, and those of them that are past the staff's time."""
    of_age = {name: keyset.opened_between(at, days, until) for name, (_, days, until) in queue.AGES.items()}
    counted = queue.lit(Dispute.objects.filter(closed_at=None), at).aggregate(
        **{name: Count("pk", filter=which) for name, which in of_age.items()},
        **{f"late_{name}": Count("pk", filter=which & Q(light="late")) for name, which in of_age.items()},
    )
    return [Bar(age[0], counted[name], counted[f"late_{name}"]) for name, age in queue.AGES.items()]


def rulings(at: datetime) -> list[Bar]:
    """Count the rulings of the last ninety days that stand, by how they went."""
    chosen = Q(is_default=False)
    ways = {
        "seller": chosen & Q(seller_bps=10_000),
        "split": chosen & Q(seller_bps__gt=0, seller_bps__lt=10_000),
        "client": chosen & Q(seller_bps=0),
        "redo": chosen & Q(redo=True),
        "default": Q(is_default=True),
    }
    counted = Ruling.objects.filter(standing=Ruling.Standing.STANDING, ruled_at__gt=at - RULINGS).aggregate(
        **{name: Count("pk", filter=which) for name, which in ways.items()}
    )
    return [Bar(label, counted[name]) for name, label in OUTCOMES.items()]


def money(user: Any, at: datetime) -> list[figures.Point]:
    """What the chain held and what was owed over thirty days, for those who may see money."""
    if not user.has_perm("escrow.view_treasury"):
        return []
    try:
        return figures.history(network.current().chain_id, at=at)
    except network.NoChain:
        return []
