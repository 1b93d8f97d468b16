"""
Precedents: what final cases decided, without what leads back to them; found by words, and counted beside a new case.
"""

import logging
from datetime import UTC
from typing import NamedTuple, Protocol
from uuid import UUID

from django.contrib.postgres.search import SearchQuery
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from accounts.errors import Invalid, NotFound
from disputes import anonymity, lifecycle, rulings, traces
from disputes.models import Dispute, Precedent, Reason, Ruling
from marketplace.models import Delivery, Job

log = logging.getLogger(__name__)

# The newest first, by the day alone: within a day the random id gives the order.
KEYS = ("-decided_at", "-id")
MAX_QUERY = 200
# Fewer than this many like cases say little: then every price counts.
ENOUGH = 5
# A distribution of the latest so many: its cost does not grow for ever.
COMPARED = 1_000
_USDC = 1_000_000
BANDS = ((10, "under_10"), (100, "10_to_100"), (1_000, "100_to_1000"), (10_000, "1000_to_10000"))
PRICE_BANDS = (*(name for _, name in BANDS), "from_10000")


# --- writing ----------------------------------------------------------------------------------------------------------
def write_due(*, limit: int = 100) -> int:
    """Summarise final cases that have no summary yet; return how many. One that raises waits, and stops no other."""
    return sum(_written(dispute_id) for dispute_id in _due(limit))


def write(dispute_id: UUID) -> Precedent | None:
    """
    Summarise a final case, once; answer None where there is nothing to summarise, or it is done.

    A case that is over stands still: its texts are read before the transaction, which is short.

    :raises NotFound: if there is no such case, or somebody else holds it
    """
    summary = _summary(dispute_id)
    if summary is None:
        return None
    with transaction.atomic():
        lifecycle.lock(dispute_id, skip_locked=True)
        if Precedent.objects.filter(dispute_id=dispute_id).exists():
            return None
        summary.save(force_insert=True)
    return summary


def _summary(dispute_id: UUID) -> Precedent | None:
    dispute = Dispute.objects.select_related("client", "seller").filter(pk=dispute_id).first()
    if dispute is None:
        raise NotFound("There is no such case.")
    ruling = rulings.standing(dispute)
    if ruling is None or dispute.closed_at is None:
        return None
    job = Job.objects.select_related("listing").get(pk=dispute.job_id)
    told = _reasons(dispute, ruling)
    known = traces.of(dispute, job, ruling, told=told)
    return Precedent(
        dispute=dispute,
        reason=dispute.reason,
        reason_codes=ruling.reason_codes,
        category=_category(job, known),
        price_band=band_of(dispute.price_units),
        opened_by=dispute.opened_by,
        facts=_facts(dispute, job),
        seller_bps=ruling.seller_bps,
        redo=ruling.redo,
        is_default=ruling.is_default,
        bond_to=ruling.bond_to if dispute.bond_units and not ruling.redo else "",
        deposit=ruling.deposit if dispute.deposit_due_units else "",
        reasons=anonymity.anonymised(told, known),
        decided_at=dispute.closed_at.astimezone(UTC).date(),
    )


def band_of(price_units: int) -> str:
    """Name the band of a price: powers of ten of USDC."""
    return next((name for above, name in BANDS if price_units < above * _USDC), PRICE_BANDS[-1])


def _due(limit: int) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT d.id FROM disputes_dispute d"
            " WHERE d.state = 'final' AND d.closed_at IS NOT NULL AND d.evidence_erased_at IS NULL"
            "   AND (d.due_retry_at IS NULL OR d.due_retry_at <= clock_timestamp())"
            "   AND NOT EXISTS (SELECT FROM disputes_precedent p WHERE p.dispute_id = d.id)"
            " ORDER BY d.closed_at LIMIT %s",
            [limit],
        )
        return [row[0] for row in cursor.fetchall()]


def _written(dispute_id: UUID) -> bool:
    try:
        return write(dispute_id) is not None
    except NotFound:  # somebody is at work on it
        return False
    except Exception:  # one case that raises must not stop the others
        log.exception("case %s could not be summarised", dispute_id)
        _postpone(dispute_id)
        return False


def _postpone(dispute_id: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE disputes_dispute SET due_attempts = due_attempts + 1,"
            " due_retry_at = clock_timestamp() + make_interval(secs => least(3600, 60 * 2 ^ least(10, due_attempts)))"
            " WHERE id = %s",
            [dispute_id],
        )


def _facts(dispute: Dispute, job: Job) -> dict[str, object]:
    """What the system knows of the case. There are no acceptance checks yet, so they said nothing."""
    first = Delivery.objects.filter(job=job).order_by("number").values_list("delivered_at", flat=True).first()
    appeal = getattr(dispute, "appeal", None)
    return {
        "delivered_in_time": None if first is None or job.deliver_by is None else first < job.deliver_by,
        "deliveries": dispute.deliveries_at_opening,
        "revisions_used": job.revisions_used,
        "answered": not dispute.unanswered,
        "checks": None,
        "appeal": appeal.outcome if appeal else None,
    }


def _reasons(dispute: Dispute, ruling: Ruling) -> str:
    appeal = getattr(dispute, "appeal", None)
    if appeal is None or not appeal.reasons:
        return ruling.reasons
    return f"{ruling.reasons}\n\nOn appeal: {appeal.reasons}"


def _category(job: Job, known: anonymity.Known) -> str:
    """Name the kind of work by the listing's first skill, unless the skill itself names somebody."""
    skill = job.listing.skills[0] if job.listing and job.listing.skills else ""
    people = [pair for pair in known.names if pair[1] != "[title]"]
    return skill if anonymity.anonymised(skill, known._replace(names=people, texts=())) == skill else ""


# --- finding ----------------------------------------------------------------------------------------------------------
def search(*, reason: str | None = None, q: str = "") -> QuerySet[Precedent]:
    """
    Find precedents by what the case was opened for, and by words of their reasons; ordered by `KEYS`.

    :raises Invalid: for an unknown reason, or words beyond 200 characters
    """
    rows = Precedent.objects.defer("words").order_by(*KEYS)
    if reason:
        if reason not in Reason.values:
            raise Invalid.at("/reason", "invalid_choice", f"`reason` is one of {', '.join(Reason.values)}.")
        rows = rows.filter(reason=reason)
    if len(q) > MAX_QUERY:
        raise Invalid.at("/q", "max_length", f"At most {MAX_QUERY} characters.")
    if q.strip():
        rows = rows.filter(Q(words=SearchQuery(q, config="english", search_type="websearch")))
    return rows


class Facts(NamedTuple):
    """What a case that is not opened yet is compared by."""

    reason: str
    price_units: int


class Like(Protocol):
    @property
    def reason(self) -> str: ...
    @property
    def price_units(self) -> int: ...


class Outcomes(NamedTuple):
    """
    How similar cases ended: the first four by a person's ruling, `defaults` by none; together they are `total`.

    `median_seller_bps` is that of the people's rulings, None without any; `any_price` says that too few had the price.
    """

    seller_full: int
    split: int
    client_full: int
    redo: int
    defaults: int
    total: int
    median_seller_bps: int | None
    any_price: bool


def similar(case: Like) -> Outcomes:
    """Count how cases for the same reason ended: those of the same price band, or of any if these are fewer than 5."""
    itself = case.pk if isinstance(case, Dispute) else None
    alike = _count(case.reason, band_of(case.price_units), itself)
    return alike if alike.total >= ENOUGH else _count(case.reason, None, itself)


def _count(reason: str, band: str | None, itself: UUID | None) -> Outcomes:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) FILTER (WHERE NOT is_default AND seller_bps = 10000),
                   count(*) FILTER (WHERE NOT is_default AND seller_bps BETWEEN 1 AND 9999),
                   count(*) FILTER (WHERE NOT is_default AND seller_bps = 0),
                   count(*) FILTER (WHERE NOT is_default AND redo),
                   count(*) FILTER (WHERE is_default),
                   count(*),
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY seller_bps) FILTER (WHERE NOT is_default)
            FROM (SELECT is_default, seller_bps, redo FROM disputes_precedent
                  WHERE reason = %s AND (%s::text IS NULL OR price_band = %s)
                    AND (%s::uuid IS NULL OR dispute_id <> %s)
                  ORDER BY decided_at DESC LIMIT %s) AS alike
            """,
            [reason, band, band, itself, itself, COMPARED],
        )
        seller_full, split, client_full, redo, defaults, total, median = cursor.fetchone()
    return Outcomes(
        seller_full=seller_full,
        split=split,
        client_full=client_full,
        redo=redo,
        defaults=defaults,
        total=total,
        median_seller_bps=None if median is None else round(median),
        any_price=band is None,
    )
