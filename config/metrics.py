"""
What machines watch: /metrics in Prometheus' words, from rows alone and for internal addresses alone.

Every number of the books, the chain and the cases is read anew by one statement, so that they are of one moment:
custody is liabilities less shortfall even while money moves. What is due for a task is asked of the task's own sweep.
No label is as many-valued as agents, jobs or payouts are. Units are micro-USDC.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accounts import clock, clockwork
from accounts.clockwork import Clock
from accounts.events import watch, webhooks
from accounts.models import Pause
from disputes.models import Dispute
from escrow.models import Deposit, RelayTransaction, Withdrawal


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Show the numbers to whoever asks from inside; to others there is nothing here."""
    if not _is_from_inside(request):
        raise Http404
    registry = CollectorRegistry()
    registry.register(Rows())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _is_from_inside(request: HttpRequest) -> bool:
    """What came through a proxy came from outside, whoever the proxy is."""
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ipaddress.ip_network(network) for network in settings.METRICS_NETWORKS)


class Rows(Collector):
    """The numbers, read from the database when they are asked for."""

    def collect(self) -> Iterator[Metric]:
        rows = _rows()
        for name, (column, said) in _NUMBERS.items():
            if rows[column] is not None:  # what was never read has no number
                yield GaugeMetricFamily(f"bailee_{name}", said, value=rows[column])
        yield from _holdings(rows)
        for what, states in (("deposits", Deposit.State.values), ("withdrawals", Withdrawal.State.values)):
            yield _by(what, f"{what} in each state", "state", states, {s: n for s, (n, _) in rows[what].items()})
            units = {state: units for state, (_, units) in rows[what].items()}
            yield _by(f"{what}_units", f"micro-USDC of {what} in each state", "state", states, units)
        purposes = RelayTransaction.Purpose.values
        yield _by("cases_open", "cases that go on, by state", "state", Dispute.LIVE, rows["cases"])
        yield _by("relays_open", "transactions under way", "purpose", purposes, rows["relays"])
        yield _by("paused", "1 where a switch is off", "flag", Pause.Flag.values, dict.fromkeys(rows["paused"], 1))
        yield _by("alerts_open", "alerts that go on, of each kind", "kind", rows["alerts"], rows["alerts"])
        yield _by("heartbeat_age_seconds", "since a part was last seen at work", "part", rows["hearts"], rows["hearts"])
        yield from _tasks(clockwork.read())
        yield from _events_out()


def _holdings(rows: dict[str, Any]) -> Iterator[Metric]:
    if rows["reading"] is None:
        return
    places = ("treasury", "cold", "unswept")
    units = {place: rows["reading"][f"{place}_units"] for place in places}
    yield _by("chain_holdings_units", "what the chain holds, at the reading's block", "place", places, units)
    wei = {address: int(wei) for address, wei in rows["reading"]["relayers"].items()}
    yield _by("relayer_gas_wei", "what a relayer has for gas", "relayer", sorted(wei), wei)


def _tasks(clocks: list[Clock]) -> Iterator[Metric]:
    """Tell of each periodic task how it runs and what waits for it; what nobody counts has no number."""
    numbers: tuple[tuple[str, str, Callable[[Clock], float | None]], ...] = (
        ("task_interval_seconds", "how often a periodic task rings", lambda one: one.seconds),
        ("task_enabled", "1 where it rings at all", lambda one: int(one.enabled)),
        (
            "task_run_age_seconds",
            "since its last run, or since it was scheduled",
            lambda one: one.run_age.total_seconds(),
        ),
        ("task_late", "1 where it has not run for five intervals, and for a minute", lambda one: int(one.is_late)),
        ("task_duration_seconds", "of its last run", lambda one: one.duration_ms and one.duration_ms / 1_000),
        ("task_failures", "runs in a row that failed", lambda one: one.failures),
        ("task_due", f"items due for it, counted up to {clockwork.MOST_COUNTED}", lambda one: one.backlog),
        (
            "task_oldest_due_seconds",
            "since the oldest of them is due",
            lambda one: None if one.backlog is None else one.oldest_due_age.total_seconds(),
        ),
    )
    for name, said, number in numbers:
        values = {one.task: value for one in clocks if (value := number(one)) is not None}
        yield _by(name, said, "task", values, values)


def _events_out() -> Iterator[Metric]:
    """Tell what is on its way to receivers, and how far the event feed is behind."""
    health, holding = webhooks.health(), watch.oldest()
    oldest = health["oldest_due_at"]
    waited = max((clock.now() - oldest).total_seconds(), 0) if oldest else 0
    for name, said, value in (
        ("webhook_endpoints_failing", "enabled endpoints whose receiver fails", health["failing"]),
        ("webhook_endpoints_disabled", "endpoints that were disabled", health["disabled"]),
        ("webhook_deliveries_pending", "deliveries that are to be sent, now or later", health["pending"]),
        ("webhook_deliveries_due", "of them those that should have been sent by now", health["due"]),
        ("webhook_oldest_due_seconds", "since the oldest of those is due", waited),
        ("events_lag_seconds", "age of the oldest transaction that holds the feed", holding.seconds if holding else 0),
    ):
        yield GaugeMetricFamily(f"bailee_{name}", said, value=value)


def _by(name: str, said: str, label: str, labels: Any, values: Mapping[str, float]) -> Metric:
    """A number for each label there is, zero where there is nothing."""
    family = GaugeMetricFamily(f"bailee_{name}", said, labels=[label])
    for each in labels:
        family.add_metric([str(each)], values.get(str(each), 0))
    return family


# name of the number: column of the statement below, what it says
_NUMBERS = {
    "ledger_custody_units": ("custody", "what the ledger says the chain holds"),
    "ledger_liabilities_units": ("liabilities", "what the platform owes, its own income among it"),
    "ledger_shortfall_units": ("shortfall", "what is recorded as lost; zero in a healthy system"),
    "ledger_last_transfer_id": ("last_transfer_id", "head of the ledger"),
    "ledger_last_entry_id": ("last_entry_id", "newest entry of the ledger"),
    "custody_difference_units": ("difference", "ledger less chain at the reading's block, once all on its way counts"),
    "payouts_pending_units": ("pending", "payouts that may go and were not paid at the reading's block"),
    "reading_block": ("reading_block", "final block the treasury was last read at"),
    "reading_age_seconds": ("reading_age", "since the treasury was last read"),
    "watch_failures": ("watch_failures", "readings in a row that failed; three pause payouts"),
    "watch_age_seconds": ("watch_age", "since the watch last tried to read"),
    "payout_oldest_seconds": ("oldest_payout", "since the oldest unsettled payout was signed, or asked for"),
    "outflows_unexplained": ("unexplained", "transfers out that nothing explains"),
    "outflows_unexplained_units": ("unexplained_units", "micro-USDC of them"),
    "scan_block": ("scan_block", "deposits are complete up to this block"),
    "scan_finalized_block": ("scan_finalized", "newest final block a scan was shown"),
    "scan_lag_blocks": ("scan_lag", "blocks the scan is behind the head it was shown"),
    "scan_age_seconds": ("scan_age", "since a scan last read a block"),
    "cases_unassigned": ("cases_unassigned", "cases that wait for a ruling or a hearing and that nobody has"),
    "case_oldest_review_seconds": ("oldest_review", "since the case that waits longest came under review"),
    "audit_position": ("audit_position", "records the audit log's chain has sealed"),
    "audit_unsealed_age_seconds": ("audit_unsealed", "since the oldest record that is not sealed was written"),
    "incidents_open": ("incidents_open", "incidents that go on"),
    "standstill_seconds": ("standstill", "since the clocks of jobs and cases stand still; zero: they run"),
    "case_overdue_seconds": ("case_overdue", "since a case's clock ran out that no sweep has enforced; nearly zero"),
}
_ROWS = """
    SELECT ledger.*,
        (SELECT coalesce(max(id), 0) FROM escrow_transfer) AS last_transfer_id,
        (SELECT coalesce(max(id), 0) FROM escrow_entry) AS last_entry_id,
        reading.difference_units AS difference, reading.pending_units AS pending,
        reading.block_number AS reading_block, extract(epoch FROM clock_timestamp() - reading.read_at) AS reading_age,
        to_jsonb(reading)::text AS reading,
        watch.failures AS watch_failures, extract(epoch FROM clock_timestamp() - watch.tried_at) AS watch_age,
        scan.block_number AS scan_block, scan.finalized_number AS scan_finalized,
        greatest(scan.latest_number - scan.block_number, 0) AS scan_lag,
        extract(epoch FROM clock_timestamp() - scan.read_at) AS scan_age,
        unexplained.*,
        (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(coalesce(a.created_at, w.requested_at))), 0)
            FROM escrow_withdrawal w LEFT JOIN escrow_authorization a ON a.withdrawal_id = w.id
            WHERE w.state IN ('requested', 'authorized', 'broadcast', 'lapsed')) AS oldest_payout,
        (SELECT coalesce(jsonb_object_agg(state, jsonb_build_array(count, units)), '{}')::text FROM (
            SELECT state, count(*), sum(amount_units) AS units FROM escrow_deposit GROUP BY state
        ) AS one) AS deposits,
        (SELECT coalesce(jsonb_object_agg(state, jsonb_build_array(count, units)), '{}')::text FROM (
            SELECT state, count(*), sum(amount_units) AS units FROM escrow_withdrawal GROUP BY state
        ) AS one) AS withdrawals,
        (SELECT coalesce(jsonb_object_agg(purpose, count), '{}')::text FROM (
            SELECT purpose, count(*) FROM escrow_relaytransaction
            WHERE state IN ('allocated', 'signed', 'sent') GROUP BY purpose
        ) AS one) AS relays,
        (SELECT coalesce(jsonb_object_agg(state, count), '{}')::text FROM (
            SELECT state, count(*) FROM disputes_dispute WHERE closed_at IS NULL GROUP BY state
        ) AS one) AS cases,
        waiting.*,
        (SELECT coalesce(max(position), 0) FROM accounts_auditseal) AS audit_position,
        (SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(r.occurred_at)), 0), 0)
            FROM accounts_auditrecord r WHERE (r.epoch, r.xid, r.id) > (
                SELECT coalesce(max(o.epoch), 0), coalesce(max(o.xid), '0'::xid8),
                       coalesce(max(o.id), 0)
                FROM accounts_auditrecord o WHERE o.id = (
                    SELECT record_id FROM accounts_auditlink ORDER BY position DESC LIMIT 1)
            )) AS audit_unsealed,
        (SELECT coalesce(jsonb_object_agg(kind, count), '{}')::text FROM (
            SELECT kind, count(*) FROM accounts_alert WHERE cleared_at IS NULL GROUP BY kind
        ) AS one) AS alerts,
        (SELECT coalesce(jsonb_agg(flag), '[]')::text FROM accounts_pause WHERE paused) AS paused,
        (SELECT coalesce(jsonb_object_agg(part, greatest(extract(epoch FROM clock_timestamp() - at), 0)), '{}')::text
            FROM marketplace_heartbeat) AS hearts,
        (SELECT count(*) FROM marketplace_incident WHERE ended_at IS NULL) AS incidents_open,
        (SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(started_at)), 0), 0)
            FROM marketplace_standstill WHERE ended_at IS NULL) AS standstill
    FROM (
        SELECT coalesce(-sum(balance) FILTER (WHERE kind = 'custody'), 0) AS custody,
               coalesce(-sum(balance) FILTER (WHERE kind = 'shortfall'), 0) AS shortfall,
               coalesce(sum(balance) FILTER (WHERE kind NOT IN ('custody', 'shortfall')), 0) AS liabilities
        FROM escrow_ledgeraccount
    ) AS ledger
    CROSS JOIN (
        SELECT count(*) AS unexplained, coalesce(sum(amount_units), 0) AS unexplained_units
        FROM escrow_outflow WHERE explanation = '' AND orphaned_at IS NULL
    ) AS unexplained
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE assigned_to_id IS NULL AND state IN ('under_review', 'appealed'))
                   AS cases_unassigned,
               coalesce(extract(epoch FROM clock_timestamp() - min(entered_review_at)
                   FILTER (WHERE state IN ('under_review', 'awaiting_approval'))), 0) AS oldest_review,
               coalesce(greatest(extract(epoch FROM clock_timestamp() - min(due_at)), 0), 0) AS case_overdue
        FROM disputes_dispute WHERE closed_at IS NULL
    ) AS waiting
    LEFT JOIN (SELECT * FROM escrow_treasuryreading ORDER BY read_at DESC LIMIT 1) AS reading ON true
    LEFT JOIN (SELECT * FROM escrow_watchstate ORDER BY tried_at DESC LIMIT 1) AS watch ON true
    LEFT JOIN (SELECT * FROM escrow_scancursor ORDER BY read_at DESC LIMIT 1) AS scan ON true
"""
_JSON = ("reading", "deposits", "withdrawals", "relays", "cases", "alerts", "paused", "hearts")


def _rows() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(_ROWS)
        [values] = cursor.fetchall()
        rows = dict(zip((column.name for column in cursor.description), values, strict=True))
    return rows | {name: json.loads(rows[name]) if rows[name] else None for name in _JSON}
