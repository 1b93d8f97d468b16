"""
What is on its way to webhook endpoints: claimed – sent – recorded. The row is the queue (architecture.md, rules 5, 6).

Nobody waits for a stranger here. A claim takes a lane of an endpoint and up to 20 of its deliveries for 60 seconds; the
sending (`courier`) happens outside of every transaction; a record counts only for who still has the lease. Whoever is
killed in between loses the lane and the deliveries after those 60 seconds, and another goes on. All times are the
database's.
"""

import json
import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, transaction

from accounts.edge.retries import retrying
from accounts.events import feed, webhooks
from accounts.events.parcels import EXPIRED, GONE, PER_LANE, Letter, Parcel, Result, Return, Standing
from accounts.models import WebhookEndpoint

# How long after the attempt before each of the ten is made (trust.md, section 5), and by how much it may vary.
SCHEDULE_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
LEASE_SECONDS = 60
FAILING_DAYS = 5


# --- claiming ---------------------------------------------------------------------------------------------------------
def claim(
    limit: int,
    *,
    doubtful: int | None = None,
    slow: Collection[UUID] = (),
    endpoints: Collection[UUID] | None = None,
    agents: Collection[UUID] = (),
) -> list[Parcel]:
    """
    Take a lane each of up to `limit` endpoints that have something due: healthy ones first, then whose last turn was
    longest ago, so that nobody waits for the end of another's queue.

    Of those that are failing or said to be `slow`, at most `doubtful` are taken: they are never in the way of others.
    Where the caller knows of `endpoints`, or of `agents` with news, it looks at theirs alone, which is cheap; otherwise
    at every endpoint with a pending row, however many rows it has.
    """
    begun = time.monotonic()
    lease = uuid4()
    values: dict[str, Any] = {
        "endpoints": list(endpoints or ()),
        "agents": list(agents),
        "limit": limit,
        "doubtful": limit if doubtful is None else min(doubtful, limit),
        "slow": list(slow),
        "lease": lease,
        "seconds": LEASE_SECONDS,
        "per_lane": PER_LANE,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_OF_ALL if endpoints is None and not agents else _CLAIM_OF_SOME, values)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return _parcels(rows, lease, begun)


def waiting() -> tuple[int, datetime | None]:
    """
    Count the healthy endpoints for which nobody does what is due, and say since when it is.

    How long a slow receiver's own queue is says nothing about us: one of its lanes is taken.
    """
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        count, since = cursor.fetchone()
    return count, since


def _parcels(rows: list[dict[str, Any]], lease: UUID, begun: float) -> list[Parcel]:
    found: dict[UUID, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["endpoint_id"], []).append(row)
    return [
        Parcel(
            endpoint=WebhookEndpoint(
                id=endpoint_id,
                agent_id=first["agent_id"],
                url=first["url"],
                secret_generation=first["secret_generation"],
                previous_secret_until=first["previous_secret_until"],
                failing_since=first["failing_since"],
                revision=first["revision"],
            ),
            lane=first["lane"],
            lease=lease,
            until=first["leased_until"],
            claimed_at=first["claimed_at"],
            begun=begun,
            letters=tuple(Letter(row["delivery_id"], _told(row)) for row in (first, *others)),
        )
        for endpoint_id, (first, *others) in found.items()
    ]


def _told(row: dict[str, Any]) -> feed.Told | None:
    if row["xid"] is None:
        return None
    cursor = feed.Cursor(row["event_epoch"], int(row["xid"]), row["event_id"])
    return feed.Told(cursor, row["type"], json.loads(row["data"]), row["occurred_at"])


# Which endpoints have pending rows, and when the first is due: from one endpoint to the next in the index, however many
# rows each has …
_EVERY = """
    RECURSIVE waiting(id, since) AS (
        (SELECT endpoint_id, next_attempt_at FROM accounts_webhookdelivery
         WHERE state = 'pending' ORDER BY endpoint_id, next_attempt_at LIMIT 1)
        UNION ALL
        SELECT next.endpoint_id, next.next_attempt_at FROM waiting CROSS JOIN LATERAL (
            SELECT endpoint_id, next_attempt_at FROM accounts_webhookdelivery
            WHERE state = 'pending' AND endpoint_id > waiting.id ORDER BY endpoint_id, next_attempt_at LIMIT 1
        ) next
    )"""
# … or some that the caller knows of.
_SOME = """
    waiting(id, since) AS (
        SELECT unnest(%(endpoints)s::uuid[]), statement_timestamp()
        UNION SELECT id, statement_timestamp() FROM accounts_webhookendpoint
        WHERE agent_id = ANY(%(agents)s::uuid[]) AND state = 'enabled'
    )"""

_IS_DUE = """state = 'pending' AND next_attempt_at <= statement_timestamp()
                  AND (leased_until IS NULL OR leased_until <= statement_timestamp())"""
_FIRST_DUE = f"""
            SELECT next_attempt_at AS since FROM accounts_webhookdelivery delivery
            WHERE delivery.endpoint_id = waiting.id AND {_IS_DUE}
            ORDER BY next_attempt_at, event_id LIMIT 1"""
_IS_OPEN = """endpoint.state = 'enabled'
              AND (endpoint.held_until IS NULL OR endpoint.held_until <= statement_timestamp())
              AND (endpoint.lane_1_until IS NULL OR endpoint.lane_1_until <= statement_timestamp()
                   OR endpoint.lane_2_until IS NULL OR endpoint.lane_2_until <= statement_timestamp())"""
_TAKE = f"""
        SELECT endpoint.*, due.since, due.is_doubtful,
               CASE WHEN endpoint.lane_1_until IS NULL OR endpoint.lane_1_until <= statement_timestamp()
                    THEN 1 ELSE 2 END AS lane
        FROM due JOIN accounts_webhookendpoint endpoint ON endpoint.id = due.id
        WHERE {{which}} AND {_IS_OPEN}
        ORDER BY greatest(endpoint.lane_1_until, endpoint.lane_2_until, '-infinity'), due.since LIMIT {{limit}}
        FOR NO KEY UPDATE OF endpoint SKIP LOCKED"""

# One statement, which waits for nobody. What it read may have changed before it has the locks; PostgreSQL then reads
# the locked row anew and judges it by the same WHERE once more. So lanes are exact: they are columns of the very row
# that is locked, and one that is free says since when, by which turns go. NO KEY UPDATE, so that an event can be
# recorded for an endpoint meanwhile.
_CLAIM = f"""
    WITH {{waiting}}, due AS MATERIALIZED (
        SELECT endpoint.id, first.since,
               endpoint.failing_since IS NOT NULL OR endpoint.id = ANY(%(slow)s::uuid[]) AS is_doubtful
        FROM waiting JOIN accounts_webhookendpoint endpoint ON endpoint.id = waiting.id
        CROSS JOIN LATERAL ({_FIRST_DUE}) first
        WHERE waiting.since <= statement_timestamp() AND {_IS_OPEN}
    ), healthy AS MATERIALIZED ({_TAKE.format(which="NOT due.is_doubtful", limit="%(limit)s")}
    ), doubtful AS MATERIALIZED ({
    _TAKE.format(
        which="due.is_doubtful", limit="least(%(doubtful)s::int, %(limit)s::int - (SELECT count(*) FROM healthy))"
    )
}
    ), taken AS MATERIALIZED (
        SELECT * FROM healthy UNION ALL SELECT * FROM doubtful
    ), picked AS MATERIALIZED (
        SELECT first.id FROM taken CROSS JOIN LATERAL (
            SELECT id FROM accounts_webhookdelivery delivery
            WHERE delivery.endpoint_id = taken.id AND {_IS_DUE}
            ORDER BY next_attempt_at, event_id LIMIT %(per_lane)s
            FOR UPDATE SKIP LOCKED
        ) first
    ), leased AS (
        UPDATE accounts_webhookdelivery delivery
        SET lease = %(lease)s, leased_until = statement_timestamp() + %(seconds)s * interval '1 second'
        FROM picked WHERE delivery.id = picked.id
        RETURNING delivery.*
    ), lane AS (
        UPDATE accounts_webhookendpoint endpoint
        SET lane_1_until = CASE WHEN taken.lane = 1 THEN busy.until ELSE endpoint.lane_1_until END,
            lane_2_until = CASE WHEN taken.lane = 2 THEN busy.until ELSE endpoint.lane_2_until END
        FROM taken JOIN (SELECT endpoint_id, max(leased_until) AS until FROM leased GROUP BY endpoint_id) busy
             ON busy.endpoint_id = taken.id
        WHERE endpoint.id = taken.id
    )
    SELECT leased.id AS delivery_id, leased.endpoint_id, leased.event_id, leased.event_epoch, leased.leased_until,
           statement_timestamp() AS claimed_at, taken.lane, taken.agent_id, taken.url, taken.secret_generation,
           taken.previous_secret_until, taken.failing_since, taken.revision,
           event.xid::text AS xid, event.type, event.data, event.occurred_at
    FROM leased JOIN taken ON taken.id = leased.endpoint_id
    LEFT JOIN accounts_event event ON event.id = leased.event_id AND event.recorded_at = leased.event_recorded_at
                                  AND event.epoch = leased.event_epoch
    ORDER BY taken.is_doubtful, taken.since, leased.endpoint_id, leased.next_attempt_at, leased.event_id
"""
_CLAIM_OF_ALL = _CLAIM.replace("{waiting}", _EVERY)
_CLAIM_OF_SOME = _CLAIM.replace("{waiting}", _SOME)


_WAITING = f"""
    WITH {_EVERY}
    SELECT count(*), min(first.since) FROM waiting JOIN accounts_webhookendpoint endpoint ON endpoint.id = waiting.id
    CROSS JOIN LATERAL ({_FIRST_DUE}) first
    WHERE waiting.since <= statement_timestamp() AND {_IS_OPEN} AND endpoint.failing_since IS NULL
      AND greatest(endpoint.lane_1_until, endpoint.lane_2_until, '-infinity') <= statement_timestamp()
"""


# --- recording --------------------------------------------------------------------------------------------------------
def record(results: Sequence[Result], *, returned: Sequence[Return] = ()) -> list[Standing]:
    """
    Write down what came of letters, schedule the next attempt of those that failed, and free lanes.

    Whoever lost the lease of a delivery writes nothing about it. Answers how the endpoints stand by now.
    """
    return retrying(lambda: _record(results, returned)) if results or returned else []


@transaction.atomic
def _record(results: Sequence[Result], returned: Sequence[Return]) -> list[Standing]:
    unsent = [(delivery_id, back.parcel.lease) for back in returned for delivery_id in back.unsent]
    parcels = [result.parcel for result in results] + [back.parcel for back in returned]
    values: dict[str, Any] = {
        # In this order, so that two who record never wait for each other in a circle.
        "touched": sorted({parcel.endpoint.pk for parcel in parcels}),
        "ids": [result.delivery_id for result in results],
        "leases": [result.parcel.lease for result in results],
        "statuses": [result.status for result in results],
        "errors": [result.error for result in results],
        "delivered": [result.delivered for result in results],
        "waits": [result.patience_seconds for result in results],
        "schedule": list(SCHEDULE_SECONDS),
        "jitter": JITTER,
        "expired": EXPIRED,
        "gone": GONE,
        "patience": timedelta(days=FAILING_DAYS),
        "because_gone": webhooks.GONE,
        "because_failing": webhooks.FAILING,
        "lane_endpoints": [back.parcel.endpoint.pk for back in returned],
        "lanes": [back.parcel.lane for back in returned],
        "lanes_until": [back.parcel.until for back in returned],
        "unsent": [delivery_id for delivery_id, _ in unsent],
        "unsent_leases": [lease for _, lease in unsent],
    }
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, values)
        standings = [Standing(*row) for row in cursor.fetchall()]
        if unsent:
            cursor.execute(_GIVE_BACK, values)
        cursor.execute(_RECORD, values)
        to_disable = [row for row in cursor.fetchall() if row[1]]
    revisions = {result.parcel.endpoint.pk: result.parcel.endpoint.revision for result in results}
    for endpoint_id, reason, at in to_disable:
        webhooks.disable(endpoint_id, reason=reason, at=at, revision=revisions[endpoint_id])
    return standings


_LOCK = """
    SELECT id, state = 'enabled', revision FROM accounts_webhookendpoint
    WHERE id = ANY(%(touched)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""
_GIVE_BACK = """
    UPDATE accounts_webhookdelivery delivery SET lease = NULL, leased_until = NULL
    FROM unnest(%(unsent)s::uuid[], %(unsent_leases)s::uuid[]) AS back(id, lease)
    WHERE delivery.id = back.id AND delivery.lease = back.lease
"""
# `tries` is that of the row, after this attempt; of ten there is none after the last. An event that is gone was no
# attempt: it says nothing about the receiver.
_RECORD = """
    WITH result AS (
        SELECT *, error <> %(expired)s AS is_attempt,
               1 - %(jitter)s + 2 * %(jitter)s * random() AS factor
        FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[], %(statuses)s::int[], %(errors)s::text[],
                    %(delivered)s::boolean[], %(waits)s::int[])
             WITH ORDINALITY AS told(id, lease, status, error, is_delivered, patience, place)
    ), noted AS (
        UPDATE accounts_webhookdelivery delivery
        SET state = CASE WHEN is_delivered THEN 'delivered'
                         WHEN is_attempt AND status IS DISTINCT FROM %(gone)s
                              AND tries + 1 < cardinality(%(schedule)s::int[]) THEN 'pending'
                         ELSE 'failed' END,
            attempts = attempts + is_attempt::int,
            tries = tries + is_attempt::int,
            next_attempt_at = CASE
                WHEN is_delivered OR NOT is_attempt THEN next_attempt_at
                ELSE statement_timestamp() + interval '1 second' * greatest(
                    factor * coalesce((%(schedule)s::int[])[tries + 2], 0), patience) END,
            lease = NULL,
            leased_until = NULL,
            last_attempt_at = CASE WHEN is_attempt THEN statement_timestamp() ELSE last_attempt_at END,
            last_status = status,
            last_error = error,
            delivered_at = CASE WHEN is_delivered THEN statement_timestamp() END
        FROM result WHERE delivery.id = result.id AND delivery.lease = result.lease
        RETURNING delivery.endpoint_id, result.*
    ), health AS (
        SELECT endpoint_id AS id, bool_or(is_attempt) AS is_attempt,
               bool_or(is_delivered) AS succeeded,
               (array_agg(is_delivered ORDER BY place DESC) FILTER (WHERE is_attempt))[1] AS is_well,
               coalesce(bool_or(status = %(gone)s), false) AS is_gone, max(patience) AS patience
        FROM noted GROUP BY endpoint_id
    ), free AS (
        SELECT id, max(until) FILTER (WHERE lane = 1) AS lane_1, max(until) FILTER (WHERE lane = 2) AS lane_2
        FROM unnest(%(lane_endpoints)s::uuid[], %(lanes)s::int[], %(lanes_until)s::timestamptz[])
             AS back(id, lane, until)
        GROUP BY id
    ), change AS (
        SELECT * FROM health FULL JOIN free USING (id)
    )
    UPDATE accounts_webhookendpoint endpoint
    SET lane_1_until = CASE WHEN lane_1_until = lane_1 THEN statement_timestamp() ELSE lane_1_until END,
        lane_2_until = CASE WHEN lane_2_until = lane_2 THEN statement_timestamp() ELSE lane_2_until END,
        last_success_at = CASE WHEN succeeded THEN statement_timestamp() ELSE last_success_at END,
        failing_since = CASE WHEN is_well THEN NULL
                             WHEN is_attempt AND succeeded THEN statement_timestamp()
                             WHEN is_attempt THEN coalesce(failing_since, statement_timestamp())
                             ELSE failing_since END,
        held_until = CASE WHEN patience > 0
                          THEN greatest(held_until, statement_timestamp() + patience * interval '1 second')
                          ELSE held_until END
    FROM change WHERE endpoint.id = change.id
    RETURNING endpoint.id,
              CASE WHEN state <> 'enabled' THEN ''
                   WHEN is_gone THEN %(because_gone)s
                   WHEN NOT is_well AND failing_since <= statement_timestamp() - %(patience)s
                   THEN %(because_failing)s
                   ELSE '' END,
              statement_timestamp()
"""
