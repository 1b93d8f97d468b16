"""
The figures of the report on moderators: what each did with their cases in a span of time, and all of them together.

Every statement answers one figure for everybody at once; there are always as many, however many people and cases.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from accounts.models import User

# Whose figures: a person, nobody (a default that no holder let happen), or everybody.
NOBODY, EVERYBODY = "nobody", "everybody"
SIDES = {"seller": "Seller fully", "split": "Split", "client": "Client fully", "redo": "Redo"}
BANDS = {"small": "below 10 USDC", "middle": "10 to 100 USDC", "large": "100 USDC and more"}


class Figures(NamedTuple):
    """
    One person's figures. `held`: cases that came to them. `responses`: cases in which theirs was the first word to the
    parties, a question or a ruling; `response_*`: since it came under review. `rulings`: those they made; `ruling_*`:
    since it came under review, or was appealed. `decided`: of their rulings, those a second person spoke about;
    `returned`: of these. `stood`: those that stood, `overturned`: of these, on appeal. `defaults`: cases that ended by
    default while they had them. `outcomes`: (band, side) → how many of those that stood.
    """

    name: str
    held: int = 0
    responses: int = 0
    response_median: timedelta | None = None
    response_p90: timedelta | None = None
    rulings: int = 0
    ruling_median: timedelta | None = None
    ruling_p90: timedelta | None = None
    decided: int = 0
    returned: int = 0
    stood: int = 0
    overturned: int = 0
    defaults: int = 0
    outcomes: dict[tuple[str, str], int] = {}

    @property
    def returned_share(self) -> float | None:
        return self.returned / self.decided if self.decided else None

    @property
    def overturned_share(self) -> float | None:
        return self.overturned / self.stood if self.stood else None

    def by_side(self) -> list[int]:
        """Count the outcomes of each side, over all amounts."""
        return [sum(self.outcomes.get((band, side), 0) for band in BANDS) for side in SIDES]

    def by_band(self) -> list[tuple[str, list[int]]]:
        """Count the outcomes of each side in each band of amounts."""
        return [(words, [self.outcomes.get((band, side), 0) for side in SIDES]) for band, words in BANDS.items()]


def read(since: datetime, until: datetime) -> list[Figures]:
    """Reckon everybody's figures from `since` until before `until`: all together first, then people by name."""
    found: dict[UUID | str, dict[str, Any]] = {EVERYBODY: {}}
    for statement in (_HELD, _RESPONSES, _RULINGS, _DEFAULTS):
        for whose, figures in _rows(statement, since, until):
            found.setdefault(whose, {}).update(figures)
    for whose, figures in _rows(_OUTCOMES, since, until):
        outcomes = found.setdefault(whose, {}).setdefault("outcomes", {})
        outcomes[figures["band"], figures["side"]] = figures["count"]
    names: dict[UUID | str, str] = {EVERYBODY: "All", NOBODY: "Nobody"}
    names |= dict(
        User.objects.filter(pk__in=[who for who in found if isinstance(who, UUID)]).values_list("pk", "username")
    )
    people = sorted((names[who], figures) for who, figures in found.items() if isinstance(who, UUID))
    rest = [(names[NOBODY], found[NOBODY])] if NOBODY in found else []
    return [Figures(name, **figures) for name, figures in [(names[EVERYBODY], found[EVERYBODY]), *people, *rest]]


def _rows(statement: str, since: datetime, until: datetime) -> Iterator[tuple[UUID | str, dict[str, Any]]]:
    """Read a statement's rows: whose they are, and their further columns by name."""
    with connection.cursor() as cursor:
        cursor.execute(statement, {"since": since, "until": until})
        columns = [column.name for column in cursor.description]
        for row in cursor.fetchall():
            figures = dict(zip(columns, row, strict=True))
            who, everybody = figures.pop("who"), figures.pop("everybody")
            yield EVERYBODY if everybody else (who or NOBODY), figures


_HELD = """
    SELECT to_id AS who, grouping(to_id) = 1 AS everybody, count(DISTINCT dispute_id) AS held
    FROM disputes_assignment WHERE to_id IS NOT NULL AND at >= %(since)s AND at < %(until)s
    GROUP BY GROUPING SETS ((to_id), ())
"""

_RESPONSES = """
    WITH first AS (
        SELECT DISTINCT ON (step.dispute_id) step.user_id, step.occurred_at,
               step.occurred_at - d.entered_review_at AS took
        FROM disputes_disputetransition step JOIN disputes_dispute d ON d.id = step.dispute_id
        WHERE step.action IN ('ask', 'rule', 'propose_ruling') AND step.user_id IS NOT NULL
        ORDER BY step.dispute_id, step.revision
    )
    SELECT user_id AS who, grouping(user_id) = 1 AS everybody, count(*) AS responses,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS response_median,
           percentile_cont(0.9) WITHIN GROUP (ORDER BY took) AS response_p90
    FROM first WHERE occurred_at >= %(since)s AND occurred_at < %(until)s
    GROUP BY GROUPING SETS ((user_id), ())
"""

# Of the rulings that people made: which were decided by a second person, stood, and were overturned.
_MADE = """
    made AS (
        SELECT r.author_id, d.price_units, r.redo, r.seller_bps,
               r.ruled_at - CASE WHEN r.on_appeal THEN p.filed_at ELSE d.entered_review_at END AS took,
               second.decision,
               r.standing = 'standing' OR coalesce(p.against_id = r.id, false) AS stood,
               coalesce(p.against_id = r.id AND p.outcome = 'replaced', false) AS overturned
        FROM disputes_ruling r
        JOIN disputes_dispute d ON d.id = r.dispute_id
        LEFT JOIN disputes_rulingapproval second ON second.ruling_id = r.id
        LEFT JOIN disputes_appeal p ON p.dispute_id = r.dispute_id
        WHERE NOT r.is_default AND r.ruled_at >= %(since)s AND r.ruled_at < %(until)s
    )
"""

_RULINGS = f"""
    WITH {_MADE}
    SELECT author_id AS who, grouping(author_id) = 1 AS everybody, count(*) AS rulings,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS ruling_median,
           percentile_cont(0.9) WITHIN GROUP (ORDER BY took) AS ruling_p90,
           count(decision) AS decided, count(*) FILTER (WHERE decision = 'returned') AS returned,
           count(*) FILTER (WHERE stood) AS stood, count(*) FILTER (WHERE overturned) AS overturned
    FROM made GROUP BY GROUPING SETS ((author_id), ())
"""

# Who had the case when silence decided it. Where a ruling only waited for a second word, it was not its author's.
_DEFAULTS = """
    SELECT holder AS who, grouping(holder) = 1 AS everybody, count(*) AS defaults
    FROM (
        SELECT CASE WHEN step.from_state = 'under_review' THEN (
                   SELECT a.to_id FROM disputes_assignment a
                   WHERE a.dispute_id = r.dispute_id AND a.at <= r.ruled_at ORDER BY a.id DESC LIMIT 1
               ) END AS holder
        FROM disputes_ruling r
        JOIN disputes_disputetransition step ON step.dispute_id = r.dispute_id AND step.occurred_at = r.ruled_at
            AND step.action IN ('rule_by_default', 'hard_stop')
        WHERE r.is_default AND r.ruled_at >= %(since)s AND r.ruled_at < %(until)s
    ) silent
    GROUP BY GROUPING SETS ((holder), ())
"""

_OUTCOMES = f"""
    WITH {_MADE}
    SELECT author_id AS who, grouping(author_id) = 1 AS everybody, band, side, count(*) AS count
    FROM (
        SELECT author_id,
               CASE WHEN price_units < 10000000 THEN 'small' WHEN price_units < 100000000 THEN 'middle' ELSE 'large' END
                   AS band,
               CASE WHEN redo THEN 'redo' WHEN seller_bps = 10000 THEN 'seller' WHEN seller_bps = 0 THEN 'client'
                    ELSE 'split' END AS side
        FROM made WHERE stood
    ) ended
    GROUP BY GROUPING SETS ((author_id, band, side), (band, side))
"""
