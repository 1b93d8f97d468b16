"""
What the treasury page says about the whole: ledger and chain side by side, its history, who pays and who relays.

Amounts are micro-USDC, gas is wei.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Max, Min, Q, Sum

from accounts import clock
from accounts.errors import DomainError
from escrow import custody
from escrow.chain import addresses, hurry, rpc
from escrow.models import Relayer, RelayTransaction, ScanCursor, Treasury, TreasuryReading

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 2.0  # with the node, while somebody waits for the page
HISTORY = timedelta(days=30)
POINTS = 60  # of the chart: more than its table can be read with
PACE = timedelta(days=7)  # over which a relayer's spending is judged


class Figures(NamedTuple):
    """Chain and ledger at one final block; `why_old` says why that is not what they are at this moment."""

    block: int
    block_at: datetime
    read_at: datetime
    treasury_units: int
    cold_units: int
    unswept_units: int
    custody_units: int
    liabilities_units: int
    shortfall_units: int
    difference_units: int
    pending_units: int
    wei_of: dict[bytes, int]  # each relayer's
    units_of: dict[bytes, int]  # each treasury's, known of this moment alone
    why_old: str = ""

    @property
    def holdings_units(self) -> int:
        return self.treasury_units + self.cold_units + self.unswept_units

    @property
    def under_way_units(self) -> int:
        """How much more the ledger counts than the chain has, rightly: what only one of them knows of yet."""
        return self.custody_units - self.holdings_units - self.difference_units

    @property
    def agree(self) -> bool:
        return not self.difference_units and not self.shortfall_units


class Point(NamedTuple):
    """One reading of the chart."""

    at: datetime
    block: int
    holdings_units: int
    custody_units: int
    liabilities_units: int
    difference_units: int


class Gas(NamedTuple):
    """A relayer, what it has left, and how long that lasts at the fees of the last days."""

    relayer: Relayer
    wei: int | None  # None where it was never read
    is_low: bool
    open_relays: int
    relays_left: int | None
    days_left: int | None


class Purse(NamedTuple):
    """An address that holds custody, and what it is for."""

    treasury: Treasury
    role: str  # current, earlier, cold
    units: int | None


class NeverRead(Exception):
    """There is no reading, old or new; the text says why."""


def read(chain_id: int) -> Figures:
    """
    Read the figures of this moment, or where the node does not answer in time those of the last reading.

    Asks the node: never inside a transaction.

    :raises NeverRead: if there is none of either
    """
    try:
        node = hurry.HurriedNode(settings.CHAIN_RPC_URL, seconds=PATIENCE_SECONDS)
        return _now(custody.read(node=node))
    except Exception as error:  # whatever a node answers, the page says what is known
        why = _why(error)
    last = newest(chain_id)
    if last is None:
        raise NeverRead(why)
    return _then(last, why)


def newest(chain_id: int) -> TreasuryReading | None:
    """Find what the watch read last."""
    return TreasuryReading.objects.filter(chain_id=chain_id).order_by("-read_at").first()


def history(chain_id: int, *, at: datetime) -> list[Point]:
    """The readings of the last thirty days, evenly thinned to what a chart and its table can show."""
    since = at - HISTORY
    first = TreasuryReading.objects.filter(chain_id=chain_id, read_at__gte=since).aggregate(first=Min("read_at"))
    if first["first"] is None:
        return []
    step = max((at - first["first"]) / POINTS, timedelta(seconds=1))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT ON (date_bin(%s, read_at, %s)) read_at, block_number,
                treasury_units + cold_units + unswept_units, custody_units, liabilities_units, difference_units
            FROM escrow_treasuryreading WHERE chain_id = %s AND read_at >= %s
            ORDER BY date_bin(%s, read_at, %s), read_at DESC
            """,
            [step, first["first"], chain_id, since, step, first["first"]],
        )
        return [Point(*row) for row in cursor.fetchall()]


def relayers(chain_id: int, now: Figures | None, *, at: datetime) -> list[Gas]:
    """Who pays gas, with what is left of it."""
    wei_of = now.wei_of if now else {}
    spent = Q(transactions__created_at__gte=at - PACE)
    cost = F("transactions__attempts__max_fee") * F("transactions__gas_limit")
    rows = (
        Relayer.objects.filter(chain_id=chain_id)
        .annotate(
            open_relays=Count("transactions", filter=Q(transactions__state__in=RelayTransaction.OPEN), distinct=True),
            dearest=Max(cost, filter=spent),
            total=Sum(cost, filter=spent),
        )
        .order_by(F("retired_at").desc(nulls_first=True), "pk")
    )
    return [_gas(row, wei_of.get(bytes(row.address))) for row in rows]


def purses(chain_id: int, now: Figures | None) -> list[Purse]:
    """The treasuries, the one that pays first."""
    rows = list(Treasury.objects.filter(chain_id=chain_id).order_by("cold", "-pk"))
    units_of = now.units_of if now else {}
    roles = ["cold" if row.cold else "earlier" for row in rows]
    if roles and roles[0] == "earlier":
        roles[0] = "current"
    return [Purse(row, role, units_of.get(bytes(row.address))) for row, role in zip(rows, roles, strict=True)]


def cursor_of(chain_id: int) -> ScanCursor | None:
    return ScanCursor.objects.filter(chain_id=chain_id).first()


def _why(error: Exception) -> str:
    match error:
        case rpc.NodeUnavailable():
            return "the node does not answer"
        case rpc.NodeError():
            return "the node refuses to answer"
        case rpc.ChainNotTrusted() | DomainError():
            return str(error).rstrip(".")
    log.exception("treasury_page_without_figures", exc_info=error)
    return "what the node answers cannot be read"


def _now(found: custody.Custody) -> Figures:
    return Figures(
        block=found.block,
        block_at=found.block_at,
        read_at=clock.now(),
        treasury_units=found.treasury_units,
        cold_units=found.cold_units,
        unswept_units=found.unswept_units,
        custody_units=found.custody_units,
        liabilities_units=found.liabilities_units,
        shortfall_units=found.shortfall_units,
        difference_units=found.difference_units,
        pending_units=found.pending_units,
        wei_of=found.relayers,
        units_of={**found.treasuries, **found.cold},
    )


def _then(row: TreasuryReading, why: str) -> Figures:
    return Figures(
        block=row.block_number,
        block_at=row.block_at,
        read_at=row.read_at,
        treasury_units=row.treasury_units,
        cold_units=row.cold_units,
        unswept_units=row.unswept_units,
        custody_units=row.custody_units,
        liabilities_units=row.liabilities_units,
        shortfall_units=row.shortfall_units,
        difference_units=row.difference_units,
        pending_units=row.pending_units,
        wei_of={addresses.parse(address): int(wei) for address, wei in row.relayers.items()},
        units_of={},
        why_old=why,
    )


def _gas(relayer: Relayer, wei: int | None) -> Gas:
    dearest, total = relayer.dearest, relayer.total  # type: ignore[attr-defined]
    return Gas(
        relayer=relayer,
        wei=wei,
        is_low=wei is not None and relayer.retired_at is None and wei < settings.RELAYER_GAS_MINIMUM_WEI,
        open_relays=relayer.open_relays,  # type: ignore[attr-defined]
        relays_left=wei // int(dearest) if wei is not None and dearest else None,
        days_left=wei * PACE.days // int(total) if wei is not None and total else None,
    )
