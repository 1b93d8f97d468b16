"""Pages of rows that are found again by where the last one ended, however many rows there are."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import DurationField, Func, Q, QuerySet


class Order(NamedTuple):
    """By a column (a moment, or the handle, which is one row's alone), and rows of the same moment by their id."""

    column: str
    newest_first: bool = False


class Seconds(Func):
    """A number of seconds, so many times, as a span of time."""

    template = "make_interval(secs => %(expressions)s * %(times)s)"
    output_field = DurationField()


def page(found: QuerySet[Any], order: Order, *, after: str, limit: int) -> tuple[list[Any], str | None]:
    """Read the rows that follow a cursor, and the cursor of the next ones; what is no cursor is ignored."""
    columns = list(dict.fromkeys((order.column, "pk")))
    if (mark := _read(after, order)) is not None:
        found = found.filter(_beyond(order, mark))
    ordered = found.order_by(*(f"-{column}" if order.newest_first else column for column in columns))
    rows = list(ordered[: limit + 1])
    return rows[:limit], _write(rows[limit - 1], order) if len(rows) > limit else None


def opened_between(at: datetime, days: int, until: int | None) -> Q:
    """Find what was opened at least so many days ago, and less than so many."""
    found = Q(created_at__lte=at - timedelta(days=days)) if days else Q()
    return found if until is None else found & Q(created_at__gt=at - timedelta(days=until))


def _beyond(order: Order, mark: tuple[Any, Any]) -> Q:
    """Say it so that an index over both columns begins where the page does."""
    far = "lt" if order.newest_first else "gt"
    value, pk = mark
    if order.column == "pk":
        return Q(**{f"pk__{far}": pk})
    return Q(**{f"{order.column}__{far}e": value}) & (Q(**{f"{order.column}__{far}": value}) | Q(**{f"pk__{far}": pk}))


def _write(row: Any, order: Order) -> str:
    value = getattr(row, order.column)
    return f"{value.isoformat() if isinstance(value, datetime) else value}~{row.pk}"


def _read(cursor: str, order: Order) -> tuple[Any, Any] | None:
    value, _, identifier = cursor.rpartition("~")
    try:
        pk = UUID(identifier)
        if order.column == "pk":
            return pk, pk
        if order.column == "handle":
            return (value, pk) if value.isascii() and value.isprintable() else None
        at = datetime.fromisoformat(value)
        return (at.astimezone(UTC), pk) if at.tzinfo else None
    except (ValueError, OverflowError):  # a moment before the first year or after the last
        return None
